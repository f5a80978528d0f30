"""From the scores of windows to events: what holds from when to when. Pure.

Shapes: W windows, K labels, G times of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from service.moments import Event, EventRules, ShotBoundary

Array = NDArray[np.float64]
Interval = tuple[float, float]

# Times of the grid in the span of a window.
_GRID = 32
_ROUNDING_S = 1e-6
_DIGITS = 6


@dataclass(frozen=True)
class Scored:
    """Windows with their scores, on the part of a video that was asked for.

    Attributes:
        windows: start and end of each, in seconds.
        scores: float64 `[W, K]`, 0 to 1.
        part: start and end of the part.
        boundaries: where its shots pass into each other; None where they were not looked for.
        split: whether events end with their shot.
    """

    windows: Sequence[Interval]
    scores: Array
    part: Interval
    boundaries: Sequence[ShotBoundary] | None = None
    split: bool = False

    @property
    def shots(self) -> list[Interval]:
        """Start and end of each shot; the whole part where no boundaries were looked for."""
        inner = [boundary.middle_s for boundary in self.boundaries or ()]
        bounds = [self.part[0], *(at for at in inner if self.part[0] < at < self.part[1]), self.part[1]]
        return list(pairwise(bounds))

    @property
    def looked_at(self) -> list[Interval]:
        """What lies inside windows or, where shots are known, inside a shot with one: ascending, without overlaps."""
        if self.boundaries is not None:
            return [self.part]
        return union(self.windows)


@dataclass(frozen=True)
class Curve:
    """The scores of the labels over a stretch of time without a gap.

    Attributes:
        times_s: `[G]`, ascending, from the start of the stretch to its end.
        scores: `[G, K]`.
    """

    times_s: Array
    scores: Array


def curves(scored: Scored) -> list[Curve]:
    """Scores over time: between the middles of two windows they change evenly, before and after all they stay.

    Within a shot only windows that lie in it count, where there are any: one that crosses a boundary is about neither
    of two shots. Without shots, what lies in no window has no scores, and parts the curves.
    """
    if scored.boundaries is None:
        return [_curve(scored, stretch) for stretch in scored.looked_at]
    found = [_curve(scored, shot) for shot in scored.shots]
    if scored.split or not found:
        return found
    return [Curve(np.concatenate([c.times_s for c in found]), np.concatenate([c.scores for c in found]))]


def _curve(scored: Scored, stretch: Interval) -> Curve:
    chosen = shot_windows(scored.windows, stretch)
    middles = np.array([(scored.windows[w][0] + scored.windows[w][1]) / 2 for w in chosen])
    span_s = max(end_s - start_s for start_s, end_s in scored.windows)
    count = max(2, int(np.ceil((stretch[1] - stretch[0]) / max(span_s, _ROUNDING_S) * _GRID)) + 1)
    times = np.linspace(*stretch, count)
    scores = scored.scores[chosen]
    return Curve(times, np.stack([np.interp(times, middles, scores[:, k]) for k in range(scores.shape[1])], axis=1))


def shot_windows(windows: Sequence[Interval], stretch: Interval) -> list[int]:
    """Numbers of the windows that lie in a shot; of those that cross its ends the one with most of it, if none does."""
    starts, ends = np.array(windows).T
    inside = (starts >= stretch[0] - _ROUNDING_S) & (ends <= stretch[1] + _ROUNDING_S)
    if inside.any():
        return [int(w) for w in np.flatnonzero(inside)]
    overlap = np.minimum(ends, stretch[1]) - np.maximum(starts, stretch[0])
    return [int(np.argmax(overlap))]


def label_events(
    found: Sequence[Curve], labels: Sequence[str], thresholds: Sequence[float], rules: EventRules
) -> list[Event]:
    """The events of all labels but instants, label by label and by their start.

    An event reaches its label's threshold and lasts until the score falls under the share `release` of it. It begins
    and ends where the score crosses the share `edge` of its highest.
    """
    kept = [k for k, label in enumerate(labels) if rules.transitions.get(label) != "cut"]
    return [event for k in kept for curve in found for event in _events(curve, k, labels[k], thresholds[k], rules)]


def _events(curve: Curve, k: int, label: str, threshold: float, rules: EventRules) -> list[Event]:
    scores = _smoothed(curve, k, rules.smoothing_s)
    high = rules.thresholds.get(label, threshold)
    held = np.concatenate([[False], scores >= high * rules.release, [False]])
    turns = np.flatnonzero(held[1:] != held[:-1])
    events = []
    for first, after in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True):
        peak = float(scores[first:after].max())
        if peak < high:
            continue
        level = max(high * rules.release, rules.edge * peak)
        over = first + np.flatnonzero(scores[first:after] >= level)
        start_s, end_s = (_crossing(curve.times_s, scores, int(over[place]), level, place) for place in (0, -1))
        top = first + np.flatnonzero(scores[first:after] >= peak - _ROUNDING_S)
        if end_s - start_s >= rules.shortest.get(label, rules.shortest_s):
            peak_s = float(curve.times_s[top[len(top) // 2]])
            events.append(event_of(label, k, (start_s, end_s), peak_s, peak))
    return events


def _smoothed(curve: Curve, k: int, seconds: float) -> Array:
    steps = round(seconds / max(float(curve.times_s[1] - curve.times_s[0]), _ROUNDING_S))
    if steps < 2:
        return curve.scores[:, k]
    padded = np.pad(curve.scores[:, k], (steps // 2, steps - 1 - steps // 2), mode="edge")
    return np.convolve(padded, np.full(steps, 1 / steps), mode="valid")


def _crossing(times_s: Array, scores: Array, place: int, level: float, side: int) -> float:
    """When the score crosses `level` beside `place`: before it for `side` 0, after it for -1."""
    beside = place - 1 if side == 0 else place + 1
    if not 0 <= beside < len(scores) or scores[beside] >= level:
        return float(times_s[place])
    share = (scores[place] - level) / (scores[place] - scores[beside])
    return float(times_s[place] + share * (times_s[beside] - times_s[place]))


def event_of(label: str, index: int, bounds: Interval, peak_s: float, score: float) -> Event:
    """An event with rounded numbers."""
    start_s, end_s, peak_s, score = (round(float(value), _DIGITS) for value in (*bounds, peak_s, score))
    return Event(label=label, index=index, start_s=start_s, end_s=end_s, peak_s=peak_s, score=score)


def union(intervals: Sequence[Interval]) -> list[Interval]:
    """What lies in any of the intervals: ascending, without overlaps; those that touch are one."""
    joined: list[Interval] = []
    for start_s, end_s in sorted(intervals):
        if joined and start_s <= joined[-1][1] + _ROUNDING_S:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((start_s, end_s))
    return joined


def length_s(intervals: Sequence[Interval]) -> float:
    """Seconds in any of the intervals."""
    return sum(end_s - start_s for start_s, end_s in union(intervals))
