"""The scores of whole clips and of those with frames left out to the evidence of an answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.contracts import ClipScores, EvidencePlan, FrameEvidence, JobRequest, SampledWindow, WindowEvidence
from service.errors import InvalidOption
from service.evidence import conclude, plan

DIGITS = 6


def evidence_plan(request: JobRequest, frames: int) -> EvidencePlan | None:
    """What is scored beside each whole clip of `frames` frames; None where no evidence is asked for."""
    if request.evidence == "none":
        return None
    planned = plan(frames, request.evidence_orders)
    return EvidencePlan(masks=len(planned.masks), orders=request.evidence_orders, window=request.evidence_window)


def evidence_clips(planned: EvidencePlan, views: int, crops: int) -> int:
    """Clips that are scored of a video with so many whole ones, these included."""
    return views + planned.masks * (views if planned.window is None else crops)


def check_evidence_window(planned: EvidencePlan | None, windows: int) -> None:
    """Raises InvalidOption where evidence is asked for of a window that a video with so many does not have."""
    if planned is not None and planned.window is not None and planned.window >= windows:
        raise InvalidOption(
            f"`evidence_window` must be below {windows}, the number of windows of this video, not {planned.window}; "
            "the first one is 0.",
            limit=windows - 1,
            actual=planned.window,
        )


def window_evidence(
    planned: EvidencePlan,
    window: SampledWindow,
    label: str,
    whole: float,
    masked: NDArray[np.float64],
    scores: Sequence[ClipScores],
) -> WindowEvidence:
    """What the frames of a window contribute to the score of `label`.

    That is `whole` with all frames and `masked` `(M,)` with some left out, each the mean over the crops. `scores` are
    all that were computed for the window.
    """
    frames = len(window.times_s)
    sets = plan(frames, planned.orders)
    found = conclude(sets, sets.values(whole, masked))
    return WindowEvidence(
        label=label,
        score=round(found.score, DIGITS),
        still_score=round(found.still_score, DIGITS),
        error=round(found.error, DIGITS),
        frames=tuple(
            FrameEvidence(
                time_s=round(time_s, DIGITS),
                frame=t,
                contribution=round(float(found.contributions[t]), DIGITS),
                enough=t in found.enough,
            )
            for t, time_s in enumerate(window.times_s)
        ),
        forwards=len(scores),
        engine_ms=round(sum(one.engine_ms for one in scores), 3),
    )
