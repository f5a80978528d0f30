"""The windows of a stream that is still arriving: those that its recording has with `windows=all`, one by one.

Only whole windows come out. What a recording has in place of a last one that is cut, another that is pulled back, would
have to wait for the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from service.contracts import ClipSpec
from service.video.timeline import latest_ticks


@dataclass(frozen=True)
class Slot:
    """One picture of a window, and the frame that is shown there."""

    window: int
    place: int
    frame: VideoFrame
    stamp: int


@dataclass(frozen=True)
class Whole:
    """A window that has all its pictures. Seconds count from the first presented frame."""

    number: int
    start_s: float
    end_s: float
    times_s: tuple[float, ...]


class LiveWindows:
    """Which frames go where. Times are compared as `service.video.windows` and `service.video.sequential` do."""

    def __init__(self, spec: ClipSpec, stride_s: float, origin: int, time_base: Fraction) -> None:
        """`origin` is the timestamp of the first presented frame, `time_base` the seconds of one tick."""
        self._spec = spec
        self._stride_s = stride_s
        self._origin = origin
        self._time_base = time_base
        self._tick_s = float(time_base)
        self._planned = 0
        self._told = 0
        self._wanted: list[tuple[float, int, int]] = []
        self._stamps: dict[int, list[int]] = {}

    @property
    def open(self) -> int:
        """How many windows have begun and are not told of."""
        return self._planned - self._told

    def shown_until(self, stamp: int, held: tuple[VideoFrame, int]) -> Iterator[Slot | Whole]:
        """What is known once the next frame is presented at `stamp`: until then it is the one `held`."""
        reached_s = self._seconds(stamp)
        while self._ticks(self._planned * self._stride_s) < stamp:
            self._plan()
            # Told of before the next one begins, so that no more are open than overlap.
            yield from self._until(stamp, held, self._planned * self._stride_s)
            yield from self._whole(min(reached_s, self._planned * self._stride_s))
        yield from self._until(stamp, held, reached_s + self._spec.span_s)
        yield from self._whole(reached_s)

    def skip_to(self, stamp: int) -> None:
        """Leave out the windows that are not told of and begin before `stamp`, which is that of the next frame."""
        number = self._planned
        while self._ticks(number * self._stride_s) < stamp:
            number += 1
        self._wanted.clear()
        self._stamps.clear()
        self._planned = self._told = number

    def whole_by(self, end: int) -> int:
        """How many of the windows that are not told of end by timestamp `end`."""
        duration_s, number = self._seconds(end), self._told
        while number * self._stride_s <= duration_s - self._spec.span_s:
            number += 1
        return number - self._told

    def ended(self, end: int, held: tuple[VideoFrame, int]) -> Iterator[Slot | Whole]:
        """The rest, where the last frame is shown until timestamp `end`."""
        duration_s = self._seconds(end)
        while self._planned * self._stride_s <= duration_s - self._spec.span_s:
            self._plan()
            yield from self._until(end, held, self._planned * self._stride_s)
            yield from self._whole(min(duration_s, self._planned * self._stride_s))
        while self._wanted:
            yield self._give(held)
        yield from self._whole(duration_s)

    def _ticks(self, time_s: float) -> float:
        return latest_ticks(self._origin, self._tick_s, time_s)

    def _seconds(self, stamp: int) -> float:
        # Whole numbers, so that it is the nearest float as in `Timeline.seconds`.
        return (stamp - self._origin) * self._time_base.numerator / self._time_base.denominator

    def _plan(self) -> None:
        number, spec = self._planned, self._spec
        start_s = number * self._stride_s
        for place in range(spec.frames):
            heapq.heappush(self._wanted, (start_s + place * spec.frame_step / spec.reference_fps, number, place))
        self._stamps[number] = []
        self._planned += 1

    def _until(self, stamp: int, held: tuple[VideoFrame, int], before_s: float) -> Iterator[Slot]:
        """The pictures that are wanted before `before_s` and before the frame at `stamp`."""
        while self._wanted and self._wanted[0][0] < before_s and stamp > self._ticks(self._wanted[0][0]):
            yield self._give(held)

    def _give(self, held: tuple[VideoFrame, int]) -> Slot:
        _, window, place = heapq.heappop(self._wanted)
        self._stamps[window].append(held[1])
        return Slot(window, place, *held)

    def _whole(self, until_s: float) -> Iterator[Whole]:
        """Windows that end by `until_s`, and so whatever the stream's end."""
        span_s = self._spec.span_s
        while self._told < self._planned:
            start_s, stamps = self._told * self._stride_s, self._stamps[self._told]
            if start_s > until_s - span_s or len(stamps) < self._spec.frames:
                return
            times_s = tuple(max(0.0, self._seconds(stamp)) for stamp in stamps)
            yield Whole(self._told, start_s, start_s + span_s, times_s)
            del self._stamps[self._told]
            self._told += 1
