"""How many clips a job may have, before its video is known and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import structlog

from service.causal_evidence import evidence_clips, evidence_plan
from service.contracts import JobRequest, ModelSpec
from service.errors import EvidenceTooLarge, SpatialAttentionTooLarge

log = structlog.get_logger()


@dataclass(frozen=True)
class JobSizeConfig:
    """Field names equal those of `service.settings.Settings`."""

    max_auto_windows: int
    max_clips_per_job: int
    max_evidence_forwards: int
    max_spatial_cells: int

    def within(self, queue_clips: int) -> Self:
        """The same for a queue, or the partition of one, that has room for so many clips.

        Evidence that never finds room is refused for its size, and not as if it could come back later.
        """
        if self.max_evidence_forwards <= queue_clips:
            return self
        log.warning(
            "evidence_limit_lowered",
            detail="A queue holds fewer clips than a job with evidence may have: raise max_queue_clips, which"
            " partitions share, or lower max_evidence_forwards.",
            max_evidence_forwards=self.max_evidence_forwards,
            limit=queue_clips,
        )
        return replace(self, max_evidence_forwards=queue_clips)


@dataclass(frozen=True)
class JobSize:
    """The most clips that options allow."""

    views: int
    """whole clips: those that are decoded"""
    clips: int
    """those that are scored: views, and with evidence the same ones with frames left out"""


def job_size(config: JobSizeConfig, spec: ModelSpec, options: JobRequest) -> JobSize:
    """What a video of any length may need.

    Raises EvidenceTooLarge and SpatialAttentionTooLarge where a single window is too much.
    """
    check_cells(config.max_spatial_cells, spec, options, options.crops)
    windows = {"auto": config.max_auto_windows, "all": config.max_clips_per_job}.get(
        str(options.windows), options.windows
    )
    views = min(int(windows) * options.crops, config.max_clips_per_job)
    planned = evidence_plan(options, spec.frames)
    if planned is None:
        return JobSize(views, views)
    check_forwards(config.max_evidence_forwards, evidence_clips(planned, options.crops, options.crops))
    # Within the limit: more are refused once they are decoded.
    return JobSize(views, min(evidence_clips(planned, views, options.crops), config.max_evidence_forwards))


def check_forwards(most: int, forwards: int) -> None:
    """Raise EvidenceTooLarge where evidence takes more clips than one job may have."""
    if forwards > most:
        raise EvidenceTooLarge(
            f"The evidence takes {forwards} clips with frames left out; the limit is {most}. Ask for one window"
            " with `evidence_window`, for fewer `windows`, one crop, or a part of the video with `start` and `end`.",
            limit=most,
            actual=forwards,
        )


def check_cells(most: int, spec: ModelSpec, options: JobRequest, clips: int) -> None:
    """Raise SpatialAttentionTooLarge where that of so many clips has more numbers than one answer may have."""
    cells = clips * spec.spatial_cells if options.attention == "spatial" else 0
    if cells > most:
        rows, columns = spec.spatial_grid or (0, 0)
        raise SpatialAttentionTooLarge(
            f"The attention in space of {clips} clips of {spec.frames} frames of {rows} x {columns} places has {cells}"
            f" numbers; the limit is {most}. Ask for fewer `windows`, one crop, a part of the video with `start` and"
            " `end`, or `attention=layers`.",
            limit=most,
            actual=cells,
        )
