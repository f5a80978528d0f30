"""Where the class token looked, drawn over a picture of the frame."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from service.contracts import Region, SpatialView, WindowResult

WHERE = (
    "Orange is where the class token looked in the last layer, stronger where it read more. It says where the model "
    "looked, and is no evidence of what made the label; frames that were dropped before have no map."
)
_ORANGE = (1.0, 0.41, 0.0)
_STRONGEST = 0.8


def shown_view(window: WindowResult) -> SpatialView | None:
    """The view that is drawn: of three crops the one in the middle, which comes last."""
    return window.spatial_attention[-1] if window.spatial_attention else None


def highest_of(view: SpatialView) -> float:
    """The highest number of a view, beside which all others are drawn."""
    return max((value for grid in view.frames for row in grid or () for value in row), default=0.0) or 1.0


def lay_map(
    axes: Axes, grid: tuple[tuple[float, ...], ...], region: Region, highest: float, width: int, height: int
) -> None:
    """Draw the map of a frame over its whole picture of so many pixels, which the axes show."""
    colors = np.empty((len(grid), len(grid[0]), 4))
    colors[..., :3], colors[..., 3] = _ORANGE, np.asarray(grid) / highest * _STRONGEST
    left, top = region.left * width - 0.5, region.top * height - 0.5
    extent = (left, left + region.width * width, top + region.height * height, top)
    axes.imshow(colors, extent=extent, aspect="auto", interpolation="nearest")
    # An image that is smaller than the picture would zoom in.
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
