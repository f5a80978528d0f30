"""Where a video passes from one shot to the next.

The pictures sampled for windows say between which two of them a boundary lies; then the frames between those are
decoded, and no others, to say at which frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.contracts import ClipSpec, JobRequest, ShotBoundary
from service.errors import FrameLimit, Undecodable
from service.video.config import VideoLimits
from service.video.cut_places import candidates, cut_among
from service.video.decode import pick_frames
from service.video.frame_change import SIDE, FrameReducer, Gray
from service.video.gradual_change import gradual_changes
from service.video.probe import Video
from service.video.source import open_upload
from service.video.windows import requested_range

# Frames beside the two sampled ones that are looked at too: a cut stands out from what is around it.
_CONTEXT_FRAMES = 3
_ROUNDING_S = 1e-6
# Pictures further apart differ too much within a shot.
_LONGEST_STEP_S = 2 / 15


class Glimpses:
    """The small pictures of frames that are decoded for another purpose, or for this one."""

    def __init__(self, wanted: int) -> None:
        """`wanted` is the number of wanted times."""
        self._pictures = np.zeros((wanted, SIDE, SIDE), np.uint8)
        self._reducer = FrameReducer()
        self._last: tuple[VideoFrame | None, Gray] = (None, self._pictures[0])

    def look(self, number: int, frame: VideoFrame) -> None:
        """Keep what `frame` shows as that of wanted time `number`."""
        if frame is not self._last[0]:
            # Colors that cannot be converted: a shot boundary may stay unseen, the video does not fail for it.
            with suppress(FFmpegError, ValueError):
                self._last = frame, self._reducer.reduced(frame)
        self._pictures[number] = self._last[1]

    def distinct(self, times_s: Sequence[float]) -> tuple[list[float], Gray]:
        """Times and pictures `[N, S, S]` of the different frames; `times_s` is the time of each wanted time's frame."""
        first: dict[float, int] = {}
        for number, time_s in enumerate(times_s):
            first.setdefault(time_s, number)
        times = sorted(first)
        return times, self._pictures[[first[time_s] for time_s in times]]


@dataclass(frozen=True)
class FoundBoundaries:
    """Boundaries in their order, and what it took to find them.

    Attributes:
        left_out: how many more there are than were asked for.
    """

    boundaries: tuple[ShotBoundary, ...]
    frames_decoded: int
    left_out: int


def search_boundaries(video: Video, spec: ClipSpec, request: JobRequest, limits: VideoLimits) -> FoundBoundaries:
    """The shot boundaries of the part of a video that `request` asks for, before any window is planned.

    Raises what `pick_frames` raises, and InvalidOption for a part that is empty.
    """
    part = requested_range(request, video.probe.timeline.duration_s)
    step_s = min(_LONGEST_STEP_S, spec.frame_step / spec.reference_fps)
    wanted = [part.start_s + i * step_s for i in range(max(1, math.ceil(part.length_s / step_s)))]
    glimpses = Glimpses(len(wanted))
    stats = pick_frames(video, wanted, glimpses.look, limits)
    left = limits.max_decoded_frames - stats.frames_decoded
    found = find_boundaries(video, *glimpses.distinct(stats.times_s), limits, left)
    return replace(found, frames_decoded=found.frames_decoded + stats.frames_decoded)


def find_boundaries(
    video: Video, times_s: Sequence[float], pictures: Gray, limits: VideoLimits, frames_left: int
) -> FoundBoundaries:
    """The shot boundaries of a video between sampled frames.

    Args:
        video: the open upload; it is opened a second time.
        times_s: presentation time of each sampled frame, ascending, without repeats.
        pictures: what they show, `[N, S, S]`.
        limits: gives the largest number of shots.
        frames_left: how many frames may be decoded; where they do not suffice, cuts lie between the sampled frames.
    """
    steps = candidates(pictures)
    most = limits.max_shots - 1
    strongest = sorted(sorted(steps, key=lambda step: -steps[step])[:most])
    cuts, decoded = _placed(video, [(times_s[step], times_s[step + 1]) for step in strongest], limits, frames_left)
    found = [ShotBoundary(start_s=at, end_s=at, transition="cut", change=change) for at, change in cuts]
    for stretch in gradual_changes(pictures):
        start_s, end_s = times_s[stretch.first], times_s[stretch.last]
        if not any(start_s < at <= end_s for at, _ in cuts):
            found.append(ShotBoundary(start_s=start_s, end_s=end_s, transition="dissolve"))
    found.sort(key=lambda boundary: (boundary.start_s, boundary.end_s))
    left_out = len(steps) - len(strongest) + max(0, len(found) - most)
    return FoundBoundaries(tuple(found[: max(0, most)]), decoded, left_out)


def _placed(
    video: Video, between: Sequence[tuple[float, float]], limits: VideoLimits, frames_left: int
) -> tuple[list[tuple[float, float]], int]:
    """Times and changes of the cuts among those that may lie between two times each, and how many frames it took."""
    known = np.array(video.probe.timeline.frame_times_s)
    wanted = [_frames_around(video, known, *pair) for pair in between]
    every = sorted({time_s for times in wanted for time_s in times})
    if not every or frames_left < 1:
        return [(last, 1.0) for _, last in between], 0
    glimpses = Glimpses(len(every))
    try:
        with reopened(video, limits) as again:
            stats = pick_frames(again, every, glimpses.look, replace(limits, max_decoded_frames=frames_left))
    except (FrameLimit, Undecodable):
        # The clips are made; a boundary a few frames beside its place is better than no answer.
        return [(last, 1.0) for _, last in between], frames_left
    times, pictures = glimpses.distinct(stats.times_s)
    shown = np.array(times)
    found = []
    for (before_s, after_s), asked in zip(between, wanted, strict=True):
        low = int(np.searchsorted(shown, asked[0] - _ROUNDING_S, side="right")) - 1
        high = int(np.searchsorted(shown, asked[-1] + _ROUNDING_S, side="right"))
        low = max(0, low)
        first = int(np.searchsorted(shown, before_s + _ROUNDING_S, side="right"))
        last = int(np.searchsorted(shown, after_s + _ROUNDING_S, side="right")) - 1
        place = cut_among(pictures[low:high], first - low, last - low)
        if place is not None:
            found.append((times[low + place[0]], place[1]))
    return found, stats.frames_decoded


def _frames_around(video: Video, known: NDArray[np.float64], before_s: float, after_s: float) -> list[float]:
    """Times that show each frame between two, and some frames beside them.

    `known` are the times of all frames, or empty.
    """
    timeline = video.probe.timeline
    period_s = 1 / (timeline.fps or 30.0)
    first_s, last_s = before_s - _CONTEXT_FRAMES * period_s, after_s + _CONTEXT_FRAMES * period_s
    if len(known):
        low, high = np.searchsorted(known, (first_s - _ROUNDING_S, last_s + _ROUNDING_S))
        return [float(time_s) for time_s in known[low:high]] or [before_s, after_s]
    # Half a frame apart, so that a frame rate which is not quite steady hides none.
    count = int((last_s - first_s) / (period_s / 2)) + 2
    asked = (first_s + i * period_s / 2 for i in range(count))
    return [time_s for time_s in asked if 0 <= time_s < timeline.duration_s] or [before_s, after_s]


@contextmanager
def reopened(video: Video, limits: VideoLimits) -> Iterator[Video]:
    """The same upload with a demuxer and a decoder that have read nothing yet.

    The file of the first one may not be read any more: both share its position.

    Raises Undecodable.
    """
    with open_upload(video.path, video.probe.family, limits.max_pixels) as container:
        stream = container.streams[video.probe.stream]
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise Undecodable("The video stream cannot be found again; the container is damaged.")
        yield replace(video, container=container, stream=stream, packets=())
