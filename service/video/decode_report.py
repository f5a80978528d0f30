"""What a sandbox worker says about an upload, checked against what was asked of it.

A sandbox worker parses untrusted bytes, and an attacker who takes it over writes its report. So nothing in it is
believed for its form alone: each value has to be one that decoding this upload can have given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.contracts import AnswerWarning, ClipSpec, DecodedVideo, JobRequest, SampledWindow, ShotBoundary, VideoInfo
from service.errors import (
    CodecNotAllowed,
    ContainerNotAllowed,
    DecodeMemoryLimit,
    DecoderCrash,
    DiskFull,
    DurationLimit,
    EmptyUpload,
    EncryptedVideo,
    FrameLimit,
    InvalidOption,
    NoVideoStream,
    PacketLimit,
    PixelLimit,
    StreamLimit,
    TooManyClips,
    Undecodable,
    VideoTooShort,
    VidtrError,
)
from service.video.config import DecodeConfig

# All that `service.video.clips.decode_file` raises; a worker does not report what ends it from
# outside.
_ERRORS: dict[str, type[VidtrError]] = {
    error.code: error
    for error in (
        CodecNotAllowed,
        ContainerNotAllowed,
        DecodeMemoryLimit,
        DiskFull,
        DurationLimit,
        EmptyUpload,
        EncryptedVideo,
        FrameLimit,
        InvalidOption,
        NoVideoStream,
        PacketLimit,
        PixelLimit,
        StreamLimit,
        TooManyClips,
        Undecodable,
        VideoTooShort,
    )
}
_WARNINGS = frozenset(
    {
        "truncated_video",
        "damaged_video",
        "timestamps_discontinuous",
        "high_dynamic_range",
        "color_matrix_unsupported",
        "metadata_unreadable",
        "frames_repeated",
        "few_frames",
        "shots_joined",
    }
)

# What a report may take: so much, and so much more for each frame and each shot it names.
_REPORT_BYTES, _FRAME_BYTES, _SHOT_BYTES = 1 << 16, 64, 128
_TEXT_CHARACTERS = 2000
_LARGEST_NUMBER = 1e15
# Times are sums of ticks; seconds of what a file says of itself may contradict its frames a little.
_ROUNDING_S = 1e-3
# Pixels of a displayed picture for each coded one, at the most stretched.
_STRETCH = 8
_LARGEST_FPS = 1e9
# Levels of gray, of which a contrast may be a few.
_LARGEST_CHANGE = 256.0


class Unbelievable(DecoderCrash):
    """A sandbox worker said what cannot be: something else than our decoder speaks."""


@dataclass(frozen=True)
class Asked:
    """What was asked of a sandbox worker: the measure of its report.

    Attributes:
        most_clips: how many clips the queue has capacity for.
    """

    spec: ClipSpec
    request: JobRequest
    config: DecodeConfig
    most_clips: int

    @property
    def most_windows(self) -> int:
        """The largest number of windows that the request can lead to."""
        affordable = max(1, self.most_clips // self.request.crops)
        asked = {"auto": self.config.max_auto_windows, "all": affordable}.get(str(self.request.windows))
        return min(affordable, self.request.windows if isinstance(self.request.windows, int) else asked or affordable)

    @property
    def most_bytes(self) -> int:
        """The largest file of clips."""
        return self.most_clips * self.spec.clip_bytes

    @property
    def report_bytes(self) -> int:
        """The largest report."""
        shots = self.config.max_shots if self.request.wants_shots else 0
        return _REPORT_BYTES + self.most_windows * self.spec.frames * _FRAME_BYTES + shots * _SHOT_BYTES


class _Error(BaseModel):
    model_config = ConfigDict(strict=True)

    code: str
    detail: str
    limit: int | float | str | None = None
    actual: int | float | str | None = None
    retry_after_s: int | float | None = None


class _Report(BaseModel):
    """One of the two."""

    model_config = ConfigDict(strict=True)

    decoded: DecodedVideo | None = None
    error: _Error | None = None


def read_report(report: bytes, asked: Asked, written_bytes: int) -> DecodedVideo:
    """What a sandbox worker found, after it left `written_bytes` of clips.

    Raises:
        Unbelievable: it cannot have found this.
        VidtrError: the upload cannot be decoded, as the sandbox worker says.
    """
    try:
        read = _Report.model_validate_json(report, strict=True)
    except ValueError as problem:
        raise unbelievable("it cannot be read") from problem
    if read.error is not None:
        raise _error(read.error)
    if read.decoded is None:
        raise unbelievable("it is empty")
    _check(read.decoded, asked, written_bytes)
    return read.decoded.model_copy(update={"warnings": tuple(_cleaned(read.decoded.warnings))})


def read_error(said: Any) -> VidtrError:
    """The error that a sandbox worker reports instead of what it found. Raises Unbelievable."""
    try:
        return _error(_Error.model_validate(said, strict=True))
    except ValueError as problem:
        raise unbelievable("its error cannot be read") from problem


def clean(text: str, most: int = _TEXT_CHARACTERS) -> str:
    """The text without what moves a terminal's cursor, begins a line or is invisible, and no longer than `most`."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:most])


def _error(said: _Error) -> VidtrError:
    known = _ERRORS.get(said.code)
    if known is None:
        raise unbelievable("its error is none of a decoder")
    return known(
        clean(said.detail),
        limit=_value(said.limit),
        actual=_value(said.actual),
        retry_after_s=None if said.retry_after_s is None else _number(said.retry_after_s, "retry_after_s"),
    )


def _value(value: float | str | None) -> float | str | None:
    if value is None:
        return None
    return clean(value) if isinstance(value, str) else _number(value, "an error's value")


def _number(value: float, name: str) -> float:
    _expect(-_LARGEST_NUMBER <= value <= _LARGEST_NUMBER, name)
    return value


def check_plan(plan: DecodedVideo, asked: Asked) -> None:
    """Raise Unbelievable for what no upload can be known to be before it is decoded to its end."""
    _check_view(plan, asked)
    _check_video(plan.video, asked.config, least_frames=0)
    _expect(not plan.warnings and plan.boundaries is None and plan.source is None, "what is known before the end")


def check_times(times_s: tuple[float, ...], asked: Asked) -> None:
    """Raise Unbelievable for what cannot be the times of a window's frames."""
    _expect(len(times_s) == asked.spec.frames, "the number of times")
    _expect(_ascending(times_s, asked.config.max_duration_s + _ROUNDING_S), "times_s")


def _check(decoded: DecodedVideo, asked: Asked, written_bytes: int) -> None:
    _check_view(decoded, asked)
    _expect(written_bytes == len(decoded.windows) * decoded.crops * asked.spec.clip_bytes, "the size of the clips")
    _check_video(decoded.video, asked.config, least_frames=1)
    _check_boundaries(decoded.boundaries, asked)
    codes = [warning.code for warning in decoded.warnings]
    _expect(len(set(codes)) == len(codes) and _WARNINGS.issuperset(codes), "warnings")


def _check_view(decoded: DecodedVideo, asked: Asked) -> None:
    _expect(decoded.crops == asked.request.crops, "crops")
    _expect(decoded.clip_shape == asked.spec.clip_shape, "clip_shape")
    _expect(1 <= len(decoded.windows) <= asked.most_windows, "the number of windows")
    _expect(len(decoded.windows) * decoded.crops <= asked.most_clips, "the number of clips")
    _expect(0 <= decoded.coverage <= 1, "coverage")
    # Its clock is the machine's, and begins after ours.
    _expect(0 <= decoded.decode_ms <= (asked.config.decode_timeout_s + 1) * 1000, "decode_ms")
    _check_windows(decoded.windows, asked)


def _check_video(video: VideoInfo, config: DecodeConfig, *, least_frames: int) -> None:
    _expect(0 <= video.duration_s <= config.max_duration_s, "duration_s")
    sides = (video.width, video.height)
    _expect(min(sides) >= 1 and video.width * video.height <= _STRETCH * config.max_pixels, "width and height")
    _expect(video.fps is None or 0 <= video.fps <= _LARGEST_FPS, "fps")
    _expect(video.container in config.allowed_containers, "container")
    _expect(video.codec in config.allowed_codecs, "codec")
    _expect(0 <= video.rotation < 360, "rotation")
    # Those of a plan that was given up count beside those of the whole stream.
    _expect(least_frames <= video.frames_decoded <= 2 * config.max_decoded_frames, "frames_decoded")


def _check_windows(windows: tuple[SampledWindow, ...], asked: Asked) -> None:
    last_s = asked.config.max_duration_s + _ROUNDING_S
    _expect(_ascending([window.start_s for window in windows], last_s), "the order of the windows")
    for window in windows:
        _expect(_ascending((window.start_s, window.end_s), last_s), "the ends of a window")
        check_times(window.times_s, asked)


def _check_boundaries(boundaries: tuple[ShotBoundary, ...] | None, asked: Asked) -> None:
    _expect(boundaries is None or asked.request.wants_shots, "boundaries that were not looked for")
    found = boundaries or ()
    _expect(len(found) < asked.config.max_shots, "the number of boundaries")
    times = [time_s for boundary in found for time_s in (boundary.start_s, boundary.end_s)]
    _expect(_ascending(times, asked.config.max_duration_s + _ROUNDING_S), "the order of the boundaries")
    for boundary in found:
        _expect((boundary.start_s == boundary.end_s) == (boundary.transition == "cut"), "the length of a boundary")
        _expect(0 <= boundary.change <= _LARGEST_CHANGE, "the change at a boundary")


def _ascending(times_s: Iterable[float], last_s: float) -> bool:
    """Whether these are times of a video, each no earlier than the one before it."""
    reached_s = 0.0
    for time_s in times_s:
        if not (math.isfinite(time_s) and reached_s - _ROUNDING_S <= time_s <= last_s):
            return False
        reached_s = time_s
    return True


def _cleaned(warnings: Iterable[AnswerWarning]) -> Iterable[AnswerWarning]:
    return (AnswerWarning(code=warning.code, detail=clean(warning.detail)) for warning in warnings)


def _expect(holds: bool, what: str) -> None:
    # NaN holds for no comparison, and so passes for nothing.
    if not holds:
        raise unbelievable(f"{what} cannot be so")


def unbelievable(why: str) -> Unbelievable:
    """The error for a report that cannot be so."""
    return Unbelievable(f"The report of the decode process is not believed: {why}.")


def report_of(found: DecodedVideo | VidtrError) -> dict[str, Any]:
    """What a sandbox worker says, as plain data: `read_report` is its inverse."""
    if isinstance(found, VidtrError):
        # What FFmpeg says of a file may hold bytes of it that are no text.
        said = {key: clean(value) if isinstance(value, str) else value for key, value in found.to_dict().items()}
        return {"error": said}
    warnings = tuple(_cleaned(found.warnings))
    return {"decoded": found.model_copy(update={"warnings": warnings}).model_dump(mode="json")}
