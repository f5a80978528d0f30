"""Which times of a video to sample. Pure: seconds in, seconds out, all from the first presented frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.contracts import ClipSpec, JobRequest
from service.errors import InvalidOption, TooManyClips
from service.video.config import VideoLimits

# Durations are sums of ticks and spans quotients; a video of exactly two spans must not come out as three windows.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Window:
    """One temporal window.

    Attributes:
        start_s: where the window starts.
        end_s: where it ends, at most the end of the range that was asked for.
        wanted_s: time of each of the T slots; each takes the last frame presented by then.
        repeated: how many slots, the last ones, lie past the end and repeat the last frame.
    """

    start_s: float
    end_s: float
    wanted_s: tuple[float, ...]
    repeated: int


@dataclass(frozen=True)
class Range:
    """The part of the video that a request asks for."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Seconds in the range."""
        return self.end_s - self.start_s


def requested_range(request: JobRequest, duration_s: float) -> Range:
    """The part of the video between the request's `start` and `end`.

    Raises:
        InvalidOption: `start` does not come before `end`, or lies beyond the end of the video.
    """
    start = request.start or 0.0
    if request.end is not None and request.end <= start:
        raise InvalidOption(
            f"The end ({request.end:g} s) must come after the start ({start:g} s).", limit=start, actual=request.end
        )
    if start > 0 and start >= duration_s:
        raise InvalidOption(
            f"The start ({start:g} s) lies beyond the end of the video ({duration_s:.3f} s).",
            limit=round(duration_s, 3),
            actual=start,
        )
    return Range(start, duration_s if request.end is None else min(request.end, duration_s))


def check_stride(spec: ClipSpec, request: JobRequest) -> None:
    """Raise InvalidOption for a `stride` that leaves gaps between windows, or that applies to none."""
    if request.stride is None:
        return
    if request.windows != "all":
        raise InvalidOption(
            f"The stride ({request.stride:g} s) applies to windows=all only; windows is {request.windows}.",
            limit="windows=all",
            actual=str(request.windows),
        )
    if request.stride > spec.span_s + _ROUNDING:
        raise InvalidOption(
            f"The stride ({request.stride:g} s) is larger than a window's span ({spec.span_s:.6g} s): "
            "what lies between two windows would not be looked at.",
            limit=round(spec.span_s, 6),
            actual=request.stride,
        )


def window_count(
    length: float, span: float, request: JobRequest, limits: VideoLimits, stride: float | None = None
) -> int:
    """How many windows the request asks for on a range of `length`, in the unit of `span` and `stride`.

    A range no longer than one span has one window, whatever the number asked for: further ones would be its copies.

    Raises:
        TooManyClips: the windows times crops exceed `max_clips_per_job`.
    """
    back_to_back = max(1, math.ceil(length / span - _ROUNDING))
    if request.windows == "auto":
        affordable = max(1, limits.max_clips_per_job // request.crops)
        count = min(limits.max_auto_windows, back_to_back, affordable)
    elif request.windows == "all":
        count = max(1, math.ceil((length - span) / (stride or span) - _ROUNDING) + 1)
    else:
        count = request.windows
    _check_clips(count, request, limits)
    return 1 if length <= span else count


def _check_clips(windows: int, request: JobRequest, limits: VideoLimits) -> None:
    clips = windows * request.crops
    if clips > limits.max_clips_per_job:
        raise TooManyClips(
            f"{windows} windows x {request.crops} crops are {clips} clips; "
            f"at most {limits.max_clips_per_job} are accepted.",
            limit=limits.max_clips_per_job,
            actual=clips,
        )


def wanted_until_s(spec: ClipSpec, request: JobRequest) -> float | None:
    """Seconds into a video beyond which `request` samples nothing, as far as that is known without its length."""
    near = request.windows == 1 and request.split == "none" and spec.sampling == "time"
    return (request.start or 0.0) + spec.span_s if near else None


def _by_time(part: Range, spec: ClipSpec, request: JobRequest, limits: VideoLimits, tick_s: float) -> list[Window]:
    span, stride = spec.span_s, request.stride or spec.span_s
    count = window_count(part.length_s, span, request, limits, stride)
    slack = max(0.0, part.length_s - span)
    if request.windows == "all":
        # The last window is pulled back so that it ends with the range and looks at frames instead of repeats.
        starts = [min(i * stride, slack) for i in range(count)]
    else:
        starts = [slack * i / (count - 1) if count > 1 else 0.0 for i in range(count)]
    windows = []
    for offset in starts:
        start = part.start_s + offset
        times = [start + k * spec.frame_step / spec.reference_fps for k in range(spec.frames)]
        # A frame that starts exactly at the end of the range is outside it.
        last = max(part.start_s, part.end_s - tick_s)
        repeated = sum(time >= part.end_s - _ROUNDING for time in times[1:])
        windows.append(Window(start, min(start + span, part.end_s), tuple(min(time, last) for time in times), repeated))
    return windows


def index_starts(frames: int, span: int, count: int) -> list[int]:
    """First frame of each of `count` test clips of a video with `frames` frames: the official VidTr test rule."""
    return [0 if frames < span else int((frames - span + 1) / count * j) for j in range(count)]


def index_clip(start: int, frames: int, stride: int, length: int) -> list[int]:
    """Frame numbers of one test clip: every `stride`-th from `start`; the last repeats where there is no next."""
    indices, current = [], start
    for _ in range(length):
        indices.append(current)
        if current + stride < frames:
            current += stride
    return indices


def _by_index(
    part: Range, spec: ClipSpec, request: JobRequest, limits: VideoLimits, frame_times_s: Sequence[float]
) -> list[Window]:
    times = [time for time in frame_times_s if part.start_s <= time < part.end_s] or [
        max((time for time in frame_times_s if time <= part.start_s), default=0.0)
    ]
    frames, span = len(times), spec.frames * spec.frame_step
    stride = span if request.stride is None else max(1, min(span, round(span * request.stride / spec.span_s)))
    count = window_count(frames, span, request, limits, stride)
    if request.windows == "all":
        starts = [max(0, min(i * stride, frames - span)) for i in range(count)]
    else:
        starts = index_starts(frames, span, count)
    windows = []
    for start in starts:
        indices = index_clip(start, frames, spec.frame_step, spec.frames)
        end_s = times[start + span] if start + span < frames else part.end_s
        repeated = spec.frames - len(set(indices))
        windows.append(Window(times[start], end_s, tuple(times[i] for i in indices), repeated))
    return windows


def plan_windows(
    duration_s: float,
    frame_times_s: Sequence[float],
    tick_s: float,
    spec: ClipSpec,
    request: JobRequest,
    limits: VideoLimits,
    shot_starts_s: Sequence[float] = (),
) -> list[Window]:
    """The windows to sample, in the order of their starts.

    Args:
        duration_s: seconds of the whole video.
        frame_times_s: presentation time of each frame, ascending; used by `sampling: index`.
        tick_s: resolution of the video's timestamps.
        spec: gives T, the distance of frames and the sampling rule.
        request: gives the number of windows, the crops and the range.
        limits: gives the largest numbers of windows and clips.
        shot_starts_s: times, ascending, that no window crosses: `all` windows lie back to back, or a stride apart,
            in each shot, and others are moved into the shot that has their middle.

    Raises:
        InvalidOption: the range is empty or beyond the end, or the stride is larger than a window.
        TooManyClips: more clips than `max_clips_per_job`.
    """
    check_stride(spec, request)

    def planned(part: Range, request: JobRequest) -> list[Window]:
        if spec.sampling == "index":
            return _by_index(part, spec, request, limits, frame_times_s)
        return _by_time(part, spec, request, limits, tick_s)

    part = requested_range(request, duration_s)
    shots = _shots(part, shot_starts_s)
    if len(shots) == 1:
        return planned(part, request)
    if request.windows == "all":
        windows = [window for shot in shots for window in planned(shot, request)]
        _check_clips(len(windows), request, limits)
        return windows
    one = request.model_copy(update={"windows": 1})
    return [_moved(window, shots, lambda part: planned(part, one)[0]) for window in planned(part, request)]


def _shots(part: Range, starts_s: Sequence[float]) -> list[Range]:
    bounds = [part.start_s, *(at for at in starts_s if part.start_s < at < part.end_s), part.end_s]
    return [Range(*bounds) for bounds in pairwise(bounds)]


def _moved(window: Window, shots: Sequence[Range], first: Callable[[Range], Window]) -> Window:
    """The window, within the shot that has its middle; `first` gives the first window of a range."""
    middle_s = (window.start_s + window.end_s) / 2
    shot = next((shot for shot in shots if middle_s < shot.end_s), shots[-1])
    if shot.start_s <= window.start_s and window.end_s <= shot.end_s:
        return window
    length_s = window.end_s - window.start_s
    return first(Range(max(shot.start_s, min(window.start_s, shot.end_s - length_s)), shot.end_s))


def coverage(windows: Sequence[Window], duration_s: float) -> float:
    """Share, 0 to 1, of `duration_s` that lies inside the union of the windows."""
    if duration_s <= 0:
        return 1.0
    covered, reached = 0.0, 0.0
    for window in sorted(windows, key=lambda w: w.start_s):
        covered += max(0.0, window.end_s - max(window.start_s, reached))
        reached = max(reached, window.end_s)
    return min(1.0, covered / duration_s)
