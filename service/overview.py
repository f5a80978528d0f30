"""What a whole video adds up to: its shots, and the share of each label. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from service.label_events import Interval, Scored, length_s, shot_windows
from service.moments import Event, LabelShare, Prediction, Shot, VideoSummary

_DIGITS = 6
TRIMMED_SPANS = 4
"""A part no longer than this many windows counts as trimmed to one thing: the mean of its windows speaks for it."""
COVERED = 0.5
"""Share of a part that has to lie inside windows for its events to speak for it."""


def shots_of(scored: Scored, predict: Callable[[NDArray[np.float64]], tuple[Prediction, ...]]) -> tuple[Shot, ...]:
    """The shots, in their order; `predict` makes predictions of `[K]` scores: the mean of the windows of the shot."""
    transitions = {boundary.middle_s: boundary.transition for boundary in scored.boundaries or ()}
    return tuple(
        Shot(
            start_s=round(start_s, _DIGITS),
            end_s=round(end_s, _DIGITS),
            key_s=round((start_s + end_s) / 2, _DIGITS),
            transition=transitions[start_s] if number else "start",
            predictions=predict(scored.scores[shot_windows(scored.windows, (start_s, end_s))].mean(axis=0)),
        )
        for number, (start_s, end_s) in enumerate(scored.shots)
    )


def summary_of(scored: Scored, events: Sequence[Event], span_s: float, qualifiers: Collection[str]) -> VideoSummary:
    """What the events add up to, and whether they or the mean of the windows speak for the part."""
    looked_at = scored.looked_at
    seconds = length_s(looked_at)
    part_s = scored.part[1] - scored.part[0]
    by_label: dict[int, list[Event]] = {}
    for event in events:
        by_label.setdefault(event.index, []).append(event)
    shares = [_share(index, of_label, seconds, qualifiers) for index, of_label in by_label.items()]
    labeled = length_s([_bounds(event) for event in events if event.label not in qualifiers])
    trimmed = part_s <= TRIMMED_SPANS * span_s or seconds < COVERED * part_s
    return VideoSummary(
        basis="mean" if trimmed else "events",
        shares=tuple(
            sorted(shares, key=lambda share: (share.qualifier, -share.duration_s, -share.events, share.index))
        ),
        unlabeled_share=round(max(0.0, 1 - labeled / seconds) if seconds > 0 else 0.0, _DIGITS),
    )


def _share(index: int, events: Sequence[Event], seconds: float, qualifiers: Collection[str]) -> LabelShare:
    duration_s = length_s([_bounds(event) for event in events])
    return LabelShare(
        label=events[0].label,
        index=index,
        duration_s=round(duration_s, _DIGITS),
        share=round(min(1.0, duration_s / seconds) if seconds > 0 else 0.0, _DIGITS),
        events=len(events),
        qualifier=events[0].label in qualifiers,
    )


def _bounds(event: Event) -> Interval:
    return event.start_s, event.end_s
