"""What a sandbox worker says of a stream while it decodes it, checked against what was asked of it.

It is as untrusted as the report on an upload, which `service.video.decode_report` checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.contracts import ClipSpec, JobRequest
from service.errors import VidtrError
from service.video.config import VideoLimits
from service.video.decode_report import clean, read_error, unbelievable
from service.video.live_input import CHUNK_BYTES

# A window's numbers, and so much for each of its frames.
_MESSAGE_BYTES, _FRAME_BYTES = 1 << 13, 64
_LARGEST_COUNT = 1 << 40
# Times are sums of ticks and quotients.
_ROUNDING_S = 1e-3


class LiveAsked(BaseModel):
    """What is to be made of one stream.

    Attributes:
        places: how many windows of clips the file holds at a time: at least one more than windows overlap.
        most_frames: how many frames may be decoded.
        most_s: how far the clock of the stream may run.
        records: whether it comes as the records of an RTP session (`service.contracts.rtp_records`).
    """

    spec: ClipSpec
    request: JobRequest
    places: int = Field(ge=2)
    most_frames: int
    most_s: float
    records: bool = False

    @property
    def window_bytes(self) -> int:
        """Bytes of the clips of one window."""
        return self.request.crops * self.spec.clip_bytes

    @property
    def message_bytes(self) -> int:
        """The largest message of a sandbox worker."""
        return _MESSAGE_BYTES + self.spec.frames * _FRAME_BYTES


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class LiveStart(_Strict):
    """The stream was opened: its container, its codec, and which of its video streams is looked at."""

    container: str
    codec: str
    stream: int


class LiveWindow(_Strict):
    """A whole window. Seconds count from the first presented frame; the counts are those so far.

    Numbers that are left out are of windows that were not decoded, because the bytes came too late.
    """

    number: int
    start_s: float
    end_s: float
    times_s: tuple[float, ...]
    frames_decoded: int
    errors: int


class LiveEnd(_Strict):
    """The stream has ended: how many windows were told of, how many after the last were not decoded, what was met."""

    windows: int
    left_out: int = 0
    frames_decoded: int
    errors: int
    jumps: int


LiveTell = Callable[[LiveStart | LiveWindow], None]


class _Message(_Strict):
    """One of these."""

    next: int | None = None
    start: LiveStart | None = None
    window: LiveWindow | None = None
    end: LiveEnd | None = None
    error: dict[str, Any] | None = None


class LiveReader:
    """Reads what one sandbox worker says of one stream. Everything raises Unbelievable for what cannot be."""

    def __init__(self, asked: LiveAsked, limits: VideoLimits) -> None:
        self._asked = asked
        self._limits = limits
        self._windows = 0
        self._next = 0

    def read(self, message: bytes) -> int | LiveStart | LiveWindow | LiveEnd:
        """How many bytes it asks for, or what it has found. Raises VidtrError for the error that it found."""
        try:
            said = _Message.model_validate_json(message, strict=True)
        except ValueError as problem:
            raise unbelievable("it cannot be read") from problem
        given = [one for one in (said.next, said.start, said.window, said.end, said.error) if one is not None]
        _expect(len(given) == 1, "the number of messages")
        one = given[0]
        if isinstance(one, dict):
            raise read_error(one)
        if isinstance(one, LiveStart):
            _expect(one.container in self._limits.allowed_containers, "container")
            _expect(one.codec in self._limits.allowed_codecs, "codec")
            _expect(0 <= one.stream < self._limits.max_streams, "stream")
        elif isinstance(one, LiveWindow):
            self._check_window(one)
        elif isinstance(one, LiveEnd):
            _expect(one.windows == self._windows, "the number of windows")
            _check_counts(one.frames_decoded, one.errors, one.jumps, one.left_out)
            _expect((self._next + one.left_out) * self._stride_s <= self._asked.most_s + self._stride_s, "left_out")
        else:
            _expect(0 < one <= CHUNK_BYTES, "the bytes that are asked for")
        return one

    def _check_window(self, window: LiveWindow) -> None:
        asked = self._asked
        _expect(window.number >= self._next, "the number of a window")
        _expect(_close(window.start_s, window.number * self._stride_s), "start_s")
        _expect(_close(window.end_s, window.start_s + asked.spec.span_s), "end_s")
        _expect(window.end_s <= asked.most_s + asked.spec.span_s + _ROUNDING_S, "the time of a window")
        _expect(len(window.times_s) == asked.spec.frames, "the number of times")
        reached_s = 0.0
        for time_s in window.times_s:
            _expect(math.isfinite(time_s) and reached_s <= time_s <= window.end_s + _ROUNDING_S, "times_s")
            reached_s = time_s
        _check_counts(window.frames_decoded, window.errors)
        self._windows += 1
        self._next = window.number + 1

    @property
    def _stride_s(self) -> float:
        return self._asked.request.stride or self._asked.spec.span_s


def said(what: LiveStart | LiveWindow | LiveEnd | VidtrError) -> dict[str, Any]:
    """What a sandbox worker says, as plain data: `LiveReader.read` is its inverse."""
    if isinstance(what, VidtrError):
        found = what.to_dict()
        return {"error": {key: clean(value) if isinstance(value, str) else value for key, value in found.items()}}
    name = {LiveStart: "start", LiveWindow: "window", LiveEnd: "end"}[type(what)]
    return {name: what.model_dump(mode="json")}


def _close(value: float, expected: float) -> bool:
    return abs(value - expected) <= _ROUNDING_S


def _check_counts(*counts: int) -> None:
    for count in counts:
        _expect(0 <= count <= _LARGEST_COUNT, "a count")


def _expect(holds: bool, what: str) -> None:
    # NaN holds for no comparison, and so passes for nothing.
    if not holds:
        raise unbelievable(f"{what} cannot be so")
