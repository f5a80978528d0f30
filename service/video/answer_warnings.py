"""What limits the worth of an answer that is still given, and the point from which there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.contracts import AnswerWarning
from service.errors import Undecodable, VideoTooShort
from service.video.config import VideoLimits
from service.video.decoder import DecodeStats
from service.video.probe import Video
from service.video.resize import Resizer
from service.video.truncation import missing
from service.video.windows import Window

# Transfer functions of ISO/IEC 23091-2 that stand for more light than a display of standard range can show.
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
_NAMED_JUMPS = 5


def warnings_of(
    video: Video,
    windows: Sequence[Window],
    shown: Sequence[Sequence[float]],
    stats: DecodeStats,
    resizer: Resizer,
    limits: VideoLimits,
) -> Iterator[AnswerWarning]:
    """The warnings of an answer; `shown` has, for each window, the times in seconds of the frames in its slots."""
    timeline = video.probe.timeline
    if lacking := missing(video.path, video.probe.family, video.probe.promise, timeline, limits):
        yield AnswerWarning(
            code="truncated_video",
            detail=f"The header promises {lacking[0]:.2f} s of video; the file holds {lacking[1]:.2f} s.",
        )
    if timeline.demux_error or stats.errors:
        reason = timeline.demux_error or stats.last_error
        yield AnswerWarning(
            code="damaged_video",
            detail=f"The file is damaged ({reason}): of {timeline.packet_count} packets of video {stats.errors} "
            "did not decode whole; the nearest good frames stand in.",
        )
    yield from _jumps(video)
    yield from _pictures(resizer)
    if repeated := sum(window.repeated for window in windows):
        slots = sum(len(window.wanted_s) for window in windows)
        yield AnswerWarning(
            code="frames_repeated",
            detail=f"{repeated} of {slots} sampled frames lie past the end of the video, or of their shot, and "
            "repeat the last frame.",
        )
    if still := sum(_is_still(window, times, limits) for window, times in zip(windows, shown, strict=True)):
        yield AnswerWarning(
            code="few_frames",
            detail=f"{still} of {len(windows)} windows show fewer than {limits.min_distinct_frames} different frames: "
            f"the video has {timeline.frames} in {timeline.duration_s:.2f} s. The model sees a still picture there.",
        )


def _jumps(video: Video) -> Iterator[AnswerWarning]:
    clock = video.probe.timeline.clock
    if clock is None or not clock.jumps:
        return
    places = ", ".join(f"by {jump.by_s:+.1f} s at {jump.at_s:.2f} s" for jump in clock.jumps[:_NAMED_JUMPS])
    more = len(clock.jumps) - _NAMED_JUMPS
    yield AnswerWarning(
        code="timestamps_discontinuous",
        detail=f"The file's clock jumps {places}{f' and {more} times more' if more > 0 else ''}. "
        "Times are continuous, as a player shows the frames: one after the other.",
    )


def _pictures(resizer: Resizer) -> Iterator[AnswerWarning]:
    if curve := _HIGH_DYNAMIC_RANGE.get(resizer.transfer):
        yield AnswerWarning(
            code="high_dynamic_range",
            detail=f"The video has high dynamic range ({curve}). Its code values are used as they are, without "
            "tone mapping, so the model sees flatter and darker pictures than a viewer.",
        )
    if resizer.unknown_matrix:
        yield AnswerWarning(
            code="color_matrix_unsupported",
            detail=f"The video's color matrix is {resizer.unknown_matrix}, which cannot be converted; it is read as "
            "BT.601, so the model sees other colors than a viewer.",
        )
    if resizer.unreadable:
        yield AnswerWarning(
            code="metadata_unreadable",
            detail=f"What the frames say of their orientation cannot be read ({resizer.unreadable}): they are shown "
            "as they are coded.",
        )


def _is_still(window: Window, times: Sequence[float], limits: VideoLimits) -> bool:
    within = len(window.wanted_s) - window.repeated
    return within >= limits.min_distinct_frames > len(set(times[:within]))


def check_enough(
    video: Video, windows: Sequence[Window], step_s: float, stats: DecodeStats, limits: VideoLimits
) -> None:
    """Refuse a video of which too little can be shown: too few moments, however many frames it has.

    Raises:
        VideoTooShort: the windows hold fewer than `min_distinct_frames` moments, `step_s` seconds apart.
        Undecodable: so few frames decode.
    """
    timeline = video.probe.timeline
    frames = len(set(stats.times_s))
    if frames >= limits.min_distinct_frames:
        return
    if damage := timeline.demux_error or stats.last_error:
        raise Undecodable(
            f"The video is damaged ({damage}): of the frames to sample only {frames} different ones decode; "
            f"at least {limits.min_distinct_frames} are needed.",
            limit=limits.min_distinct_frames,
            actual=frames,
        )
    # What is short is time. A picture that stays for minutes is as much video as one that is repeated for minutes.
    length_s = max(window.end_s for window in windows) - min(window.start_s for window in windows)
    if int(length_s / step_s) + 1 >= limits.min_distinct_frames:
        return
    raise VideoTooShort(
        f"Only {frames} different {'frame' if frames == 1 else 'frames'} can be sampled from {length_s:.3f} s of "
        f"video; at least {limits.min_distinct_frames} are needed, {step_s:.3g} s apart. Send a longer piece.",
        limit=limits.min_distinct_frames,
        actual=frames,
    )
