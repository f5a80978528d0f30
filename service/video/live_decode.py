"""A stream that is still arriving to clips, window by window: the work that a decode process does for one session."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.contracts import ClipSpec, JobRequest
from service.errors import DurationLimit, Undecodable
from service.video.clips import ClipFile
from service.video.config import VideoLimits
from service.video.decoder import Decoder
from service.video.live_clock import LiveClock
from service.video.live_input import LiveInput
from service.video.live_report import LiveAsked, LiveEnd, LiveStart, LiveTell, LiveWindow
from service.video.live_windows import LiveWindows, Slot
from service.video.orientation import Orientation, orientation_of
from service.video.probe import codec_of, sane_aspect
from service.video.resize import Resizer
from service.video.rtp_input import RtpInput
from service.video.sei_orientation import MESSAGE_BYTES, UNTURNED, display_orientation
from service.video.sequential import Reading
from service.video.sniff import HEAD_BYTES, Family, sniff
from service.video.source import Openable, read_packets, refuse_open
from service.video.streams import choose_stream

FAMILIES = ("mpegts", "mp4", "matroska")
"""those that can be read while they arrive"""


@contextmanager
def open_live(source: LiveInput, family: Family, max_pixels: int) -> Iterator[InputContainer]:
    """The container that arrives by `source`, read by the family's demuxer. Raises Undecodable."""
    try:
        container = av.open(
            source,
            mode="r",
            format=family.demuxer,
            options={"max_pixels": str(max_pixels)},
            container_options={"format_whitelist": family.demuxer},
            metadata_errors="replace",
            io_open=refuse_open,
        )
    except FFmpegError as error:
        raise Undecodable(
            f"The stream cannot be opened as {family.name}; it has to begin with its header, and an MP4 has to be "
            f"fragmented ({error.strerror}).",
            actual=str(error.strerror),
        ) from error
    with container:
        yield container


@dataclass
class _Orientations:
    """What the stream itself asks for, as `service.video.packet_index` notes it of a file."""

    codec: str
    turns: list[tuple[int, Orientation]] = field(default_factory=list)
    _unturned: int | None = None
    _asked: bool = True

    def note(self, packet: Packet[Any], pts: int) -> None:
        if not (packet.is_keyframe and self._asked and self.codec in ("h264", "hevc")):
            return
        matrix = display_orientation(bytes(memoryview(packet)[:MESSAGE_BYTES]), self.codec)
        if matrix is not None:
            if self._unturned is not None:
                self.turns.append((self._unturned, orientation_of(UNTURNED)))
                self._unturned = None
            self.turns.append((pts, orientation_of(matrix)))
        elif not self.turns and self.codec == "h264":
            self._asked = False
        elif not self.turns and self._unturned is None:
            self._unturned = pts


@dataclass(frozen=True)
class _Gap:
    """Frames from timestamp `begin` to before `end` are not decoded; to the end of the stream where that is None."""

    begin: int
    end: int | None

    def __contains__(self, stamp: int) -> bool:
        return self.begin <= stamp and (self.end is None or stamp < self.end)


class _Stream:
    """The packets of the video, on one clock, and where its presentation begins and ends.

    Attributes:
        gaps: what was left out, because it came late, and was not passed yet.
    """

    def __init__(
        self, source: LiveInput, container: InputContainer, stream: VideoStream, family: str, codec: str
    ) -> None:
        self._source = source
        if stream.time_base is None:
            raise Undecodable("The video stream has no time base; the container is damaged.")
        self.time_base = stream.time_base
        self.clock = LiveClock(family, stream.time_base)
        # The matrix of an MP4's track is on every frame.
        self.orientations = _Orientations("" if family == "mp4" else codec)
        self._packets = read_packets(container, stream)
        self._first_key: int | None = None
        self._keys = 0
        self.origin: int | None = None
        self.end = 0
        self.gaps: deque[_Gap] = deque()

    def packets(self) -> Iterator[Packet[Any] | None]:
        """The packets that are to be decoded; None before a keyframe that comes after others were left out.

        What is late is left out up to a keyframe that is not. A camera that sends one keyframe only is decoded whole.
        """
        leaving_out, begin, least = False, 0, 0
        for packet in self.clock.continued(self._packets):
            pts = packet.dts if packet.pts is None else packet.pts
            if pts is None:
                if not leaving_out:
                    yield packet
                continue
            self._note(packet, pts)
            if leaving_out and packet.is_keyframe and not self._source.late:
                self.gaps.append(_Gap(begin, pts))
                leaving_out, least = False, pts
                yield None
            elif not leaving_out and self._source.late and self._keys > 1:
                leaving_out, begin = True, pts
            if leaving_out:
                begin = min(begin, pts)
            # Pictures before a keyframe that come after it refer to some that were left out.
            elif pts >= least:
                yield packet
        if leaving_out:
            self.gaps.append(_Gap(begin, None))

    def _note(self, packet: Packet[Any], pts: int) -> None:
        self._keys += packet.is_keyframe
        if self._first_key is None and packet.is_keyframe:
            self._first_key = pts
        if packet.is_discard or self._first_key is None or pts < self._first_key:
            return
        if self.origin is None:
            self.origin = pts
        self.orientations.note(packet, pts)
        self.end = max(self.end, pts + (packet.duration or 0))


def decode_live(source: LiveInput, out: Openable, asked: LiveAsked, limits: VideoLimits, tell: LiveTell) -> LiveEnd:
    """Decode what comes by `source` until it ends, and `tell` of each whole window once `out` holds its clips.

    Window number n has its clips, uint8 `[crops, T, H, W, 3]` RGB, at place n modulo `asked.places` of `out`, until
    `tell` returns; times and pictures are those that the recording has with `windows=all`.

    Raises:
        VidtrError: one of the errors of `service.errors` under "the video".
        MemoryError: the process may not have the memory that the stream needs.
    """
    spec, request = asked.spec, asked.request
    if asked.records:
        source = LiveInput(RtpInput(source).next)
    family = sniff(source.head(HEAD_BYTES), tuple(name for name in FAMILIES if name in limits.allowed_containers))
    with open_live(source, family, limits.max_pixels) as container:
        stream, number, _ = choose_stream(container, family, limits.max_streams, request.stream)
        codec = codec_of(stream, limits.allowed_codecs)
        limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
        aspect = sane_aspect(stream.sample_aspect_ratio)
        tell(LiveStart(container=family.name, codec=codec, stream=number))
        arriving = _Stream(source, container, stream, family.name, codec)
        decoder = Decoder(stream.codec_context, replace(limits, max_decoded_frames=asked.most_frames))
        reading = Reading(decoder, 0)
        resizer = Resizer(spec, request.crops, aspect, limits, arriving.orientations.turns)
        with out.open("w+b") as file:
            shape = (asked.places, request.crops, *spec.clip_shape)
            clips = _Clips(ClipFile(file, shape), resizer, asked.places)
            told, left_out = _windows(arriving, reading, clips, spec, request, asked, lambda: decoder.frames, tell)
    return LiveEnd(
        windows=told,
        left_out=left_out,
        frames_decoded=decoder.frames,
        errors=reading.errors,
        jumps=arriving.clock.jumps,
    )


class _Clips:
    """Puts pictures where windows want them; a frame that several want is resized once."""

    def __init__(self, file: ClipFile, resizer: Resizer, places: int) -> None:
        self._file = file
        self._resizer = resizer
        self._places = places
        self._latest: tuple[VideoFrame | None, list[NDArray[np.uint8]]] = (None, [])

    def put(self, slot: Slot) -> None:
        if slot.frame is not self._latest[0]:
            self._latest = slot.frame, self._resizer.crops(slot.frame)
        for crop, picture in enumerate(self._latest[1]):
            self._file.write(slot.window % self._places, crop, slot.place, picture)


def _windows(
    arriving: _Stream,
    reading: Reading,
    clips: _Clips,
    spec: ClipSpec,
    request: JobRequest,
    asked: LiveAsked,
    frames: Any,
    tell: LiveTell,
) -> tuple[int, int]:
    """Tell of the windows; how many there were, and how many after the last of them were left out."""
    windows: LiveWindows | None = None
    held: tuple[VideoFrame, int] | None = None
    gaps, told = arriving.gaps, 0

    def take(found: Iterable[Any]) -> None:
        nonlocal told
        for one in found:
            if isinstance(one, Slot):
                clips.put(one)
                continue
            tell(
                LiveWindow(
                    number=one.number,
                    start_s=one.start_s,
                    end_s=one.end_s,
                    times_s=one.times_s,
                    frames_decoded=frames(),
                    errors=reading.errors,
                )
            )
            told += 1

    for frame, stamp in reading.frames(arriving.packets()):
        if windows is None and arriving.origin is not None:
            windows = LiveWindows(spec, request.stride or spec.span_s, arriving.origin, arriving.time_base)
        if any(stamp in gap for gap in gaps):
            continue
        while gaps and stamp >= gaps[0].begin:
            begin = gaps.popleft().begin
            if windows is not None:
                # Until there what was decoded is all that is shown.
                take(windows.shown_until(begin, held) if held is not None else ())
                windows.skip_to(stamp)
            held = None
        if windows is not None and arriving.origin is not None:
            _check_time(float((stamp - arriving.origin) * arriving.time_base), asked.most_s)
            take(windows.shown_until(stamp, held or (frame, stamp)))
        held = frame, stamp
    if held is None:
        reason = reading.last_error or "the decoder gave no frame"
        raise Undecodable(f"Nothing of the stream can be decoded ({reason}).", actual=reason)
    if windows is None:
        return told, 0
    if gaps:
        take(windows.shown_until(gaps[0].begin, held))
        return told, windows.whole_by(arriving.end)
    take(windows.ended(arriving.end, held))
    return told, 0


def _check_time(time_s: float, most_s: float) -> None:
    if time_s > most_s:
        raise DurationLimit(
            f"The stream's clock says {time_s:.1f} s; a session lasts at most {most_s:g} s. Begin another.",
            limit=most_s,
            actual=round(time_s, 3),
        )
