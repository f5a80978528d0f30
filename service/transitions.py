"""Cuts and dissolves: what a model says of them, and what the pictures show. Pure.

The pictures decide. Where shot boundaries were looked for, each of them is an event, wherever it lies against the
windows, and a model that says `cut` or `dissolve` where there is none is not believed: it looks at a few frames, the
search at every one. Where no boundaries were looked for, a cut lies between the two frames of its window that the model
attended to most, and a dissolve is an event like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.label_events import Interval, Scored, event_of
from service.moments import Event, EventRules, ShotBoundary

# Seconds by which a window may miss a boundary that it is asked about.
_BESIDE_S = 0.2
# Cuts that windows of a model place closer than this are one.
_SAME_CUT_S = 0.25


def with_transitions(
    events: Sequence[Event],
    scored: Scored,
    labels: Sequence[str],
    thresholds: Sequence[float],
    rules: EventRules,
    places_s: Sequence[float | None],
) -> list[Event]:
    """The events with those that name shot boundaries, by their start.

    `places_s` says for each window where its attention puts a cut; None where it is not known.
    """
    found = list(events)
    for k, label in enumerate(labels):
        kind = rules.transitions.get(label)
        if kind == "cut":
            threshold = rules.thresholds.get(label, thresholds[k])
            found += _cuts(scored, k, label, threshold, places_s)
        elif kind == "dissolve" and scored.boundaries is not None:
            found = [event for event in found if event.index != k] + _dissolves(scored, scored.boundaries, k, label)
    return sorted(found, key=lambda event: (event.start_s, event.end_s, event.index))


def _cuts(scored: Scored, k: int, label: str, threshold: float, places_s: Sequence[float | None]) -> list[Event]:
    if scored.boundaries is not None:
        return [
            event_of(label, k, (at.end_s, at.end_s), at.end_s, _score(scored, k, at))
            for at in scored.boundaries
            if at.transition == "cut"
        ]
    said = sorted(
        (place_s, float(score))
        for place_s, score in zip(places_s, scored.scores[:, k], strict=True)
        if place_s is not None and score >= threshold
    )
    kept: list[tuple[float, float]] = []
    for place_s, score in said:
        if kept and place_s - kept[-1][0] <= _SAME_CUT_S:
            kept[-1] = max(kept[-1], (place_s, score), key=lambda one: one[1])
        else:
            kept.append((place_s, score))
    return [event_of(label, k, (place_s, place_s), place_s, score) for place_s, score in kept]


def _dissolves(scored: Scored, boundaries: Sequence[ShotBoundary], k: int, label: str) -> list[Event]:
    return [
        event_of(label, k, (at.start_s, at.end_s), at.middle_s, _score(scored, k, at))
        for at in boundaries
        if at.transition == "dissolve"
    ]


def _score(scored: Scored, k: int, boundary: ShotBoundary) -> float:
    """The model's highest score in windows at the boundary, or how much the pictures differ if that is more."""
    bounds: Interval = boundary.start_s - _BESIDE_S, boundary.end_s + _BESIDE_S
    beside = [w for w, (start_s, end_s) in enumerate(scored.windows) if start_s <= bounds[1] and bounds[0] <= end_s]
    said = float(scored.scores[beside, k].max()) if beside else 0.0
    return max(said, min(1.0, boundary.change))
