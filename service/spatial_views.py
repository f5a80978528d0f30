"""Where the model looked in the picture: what its answers say of attention in space. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.contracts import ClipScores, DecodedVideo, JobRequest, ModelSpec, Region, SpatialView
from service.crop_geometry import regions
from service.errors import InvalidOption

SPATIAL_DIGITS = 5
"""An even share of the 1,568 places of 8 frames of 14 x 14 is 0.00064."""


def check_spatial(spec: ModelSpec, request: JobRequest) -> None:
    """Raises InvalidOption where attention in space is asked for of a model that gives none."""
    if request.attention == "spatial" and not spec.spatial_grid:
        raise InvalidOption(
            f"`attention` must not be `spatial` for model {spec.name!r} in version {spec.version}, which does not say "
            "where in the picture it looked. `GET /v1/models` says which models do.",
            limit="none, frames or layers",
            actual="spatial",
        )


def spatial_views(
    spec: ModelSpec, decoded: DecodedVideo, crops: Sequence[ClipScores]
) -> tuple[SpatialView, ...] | None:
    """Where the model looked in a window whose crops have these scores; None where they do not say."""
    # A worker may serve the same weights anew under a configuration that no longer declares the output.
    if not spec.spatial_grid or not all(one.spatial_attention for one in crops):
        return None
    shown = regions(decoded.video.width, decoded.video.height, spec, decoded.crops)
    return tuple(_view(spec, region, one) for region, one in zip(shown, crops, strict=True))


def _view(spec: ModelSpec, region: Region, scores: ClipScores) -> SpatialView:
    grids = np.reshape(scores.spatial_attention, (spec.frames, *(spec.spatial_grid or ()))).round(SPATIAL_DIGITS)
    # The last layer reads the frames that the one before it has left.
    alive = scores.layer_retention[-2] if len(scores.layer_retention) > 1 else (1.0,) * spec.frames
    return SpatialView(
        region=region,
        frames=tuple(
            tuple(map(tuple, grid.tolist())) if share > 0 else None for grid, share in zip(grids, alive, strict=True)
        ),
    )
