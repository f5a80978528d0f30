"""Decode one stream from front to back, skipping groups of pictures that nobody wants, and pick frames by time."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.codec.context import ThreadType
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import FrameLimit, Undecodable
from service.video.config import VideoLimits
from service.video.probe import Probe
from service.video.source import open_upload, read_packets
from service.video.timeline import Timeline

# Only these store keyframe flags and presentation times in an index written by the muxer.
_INDEXED_FAMILIES = ("mp4", "matroska")
# AVI knows decoding times only, so frames come out in display order with their times shuffled among neighbours.
_REORDERED_FAMILIES = ("avi",)
_REORDER_DEPTH = 4


@dataclass(frozen=True)
class Picked:
    """What the decoder did.

    Attributes:
        times_s: the presentation time of the frame picked for each wanted moment, in the order of the moments.
        frames_decoded: how many frames were decoded.
        errors: how many packets did not decode, or only in parts.
        last_error: what was wrong with the last of them.
    """

    times_s: tuple[float, ...]
    frames_decoded: int
    errors: int
    last_error: str


class _SkippingUnsafe(Exception):
    """A group of pictures did not start as its index promised."""


class _Times:
    """Gives each frame its presentation time in ticks; frames arrive in display order.

    Timestamps that run backwards are held at the last good one, as a player does.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._held: list[VideoFrame] = []
        self._stamps: list[int] = []
        self._last: int | None = None

    def _stamp(self, frame: VideoFrame) -> int:
        if frame.pts is not None:
            return frame.pts
        if frame.dts is not None:
            return frame.dts
        return 0 if self._last is None else self._last + max(frame.duration, 1)

    def push(self, frame: VideoFrame) -> Iterator[tuple[VideoFrame, int]]:
        self._held.append(frame)
        heapq.heappush(self._stamps, self._stamp(frame))
        if len(self._held) > self._depth:
            yield self._pop()

    def flush(self) -> Iterator[tuple[VideoFrame, int]]:
        while self._held:
            yield self._pop()

    def _pop(self) -> tuple[VideoFrame, int]:
        stamp = heapq.heappop(self._stamps)
        self._last = stamp if self._last is None else max(stamp, self._last)
        return self._held.pop(0), self._last


def keyframes_before(timeline: Timeline, moments: Sequence[float]) -> list[int]:
    """For each moment (seconds), the packet to start decoding at so that its frame comes out.

    That is the last presented keyframe at or before the moment, packet 0 where there is none.
    """
    numbers = np.flatnonzero(timeline.keyframe & timeline.shown)
    numbers = numbers[np.argsort(timeline.pts[numbers], kind="stable")]
    stamps = timeline.pts[numbers].tolist()
    starts = []
    for moment in moments:
        ticks = timeline.origin + moment / timeline.tick_s + 0.5
        place = bisect_right(stamps, ticks) - 1
        starts.append(int(numbers[place]) if place > 0 else 0)
    return starts


class _Pass:
    """One reading of the file. Packets before `start`, and later before `next_start`, are not decoded.

    With `skip`, anything that casts doubt on having skipped raises _SkippingUnsafe.
    """

    def __init__(self, stream: VideoStream, found: Probe, limits: VideoLimits, skip: bool, start: int) -> None:
        self._stream = stream
        self._timeline = found.timeline
        self._limits = limits
        self._skip = skip
        self._times = _Times(_REORDER_DEPTH if found.family.name in _REORDERED_FAMILIES else 0)
        self._await_stamp: int | None = None
        self.next_start = start
        self.decoded = 0
        self.errors = 0
        self.last_error = ""

    def frames(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[tuple[VideoFrame, int]]:
        """Decoded frames with their times in ticks, in display order.

        The consumer moves `next_start` to the packet at which the next frame it wants can be started.
        """
        number, decoded_to = -1, -1
        try:
            for packet in packets:
                number += 1
                if number < self.next_start:
                    continue
                if number > decoded_to + 1:
                    self._stream.codec_context.flush_buffers()
                    self._await_stamp = int(self._timeline.pts[number])
                decoded_to = number
                yield from self._decode(packet)
        except FFmpegError as error:
            self._doubt(str(error.strerror))
        yield from self._decode(None)
        yield from self._times.flush()

    def _decode(self, packet: Packet[VideoStream] | None) -> Iterator[tuple[VideoFrame, int]]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except MemoryError:
            raise  # FFmpeg's own kind is one of its errors too, but is no sign of damage
        except FFmpegError as error:
            self._doubt(str(error.strerror))
            return
        for frame in frames:
            self.decoded += 1
            if self.decoded > self._limits.max_decoded_frames:
                raise FrameLimit(
                    f"More than {self._limits.max_decoded_frames} frames would have to be decoded.",
                    limit=self._limits.max_decoded_frames,
                    actual=self.decoded,
                )
            self._limits.check_pixels(frame.width, frame.height)
            if self._await_stamp is not None and frame.pts is not None and frame.pts < self._await_stamp:
                continue  # belongs to the group before, of which it misses the references
            if frame.is_corrupt:
                self._doubt("a picture lacks parts of its references")
                continue
            if self._await_stamp is not None:
                if frame.pts != self._await_stamp:
                    raise _SkippingUnsafe
                self._await_stamp = None
            yield from self._times.push(frame)

    def _doubt(self, reason: str) -> None:
        if self._skip:
            raise _SkippingUnsafe(reason)
        self.errors += 1
        self.last_error = reason


def _pick(
    path: Path,
    found: Probe,
    moments: Sequence[float],
    take: Callable[[int, VideoFrame], None],
    limits: VideoLimits,
    skip: bool,
) -> Picked:
    timeline = found.timeline
    bounds = [timeline.origin + moment / timeline.tick_s + 0.5 for moment in moments]
    starts = keyframes_before(timeline, moments) if skip else [0] * len(moments)
    times: list[float] = []
    with open_upload(path, found.family, limits.max_pixels) as container:
        stream = container.streams[found.stream]
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise Undecodable("The video stream cannot be found again; the container is damaged.")
        context = stream.codec_context
        # More threads only help a single decode, and FFmpeg's have been seen to hang when many decodes run at once.
        context.thread_count = 1
        context.thread_type = ThreadType.NONE
        context.options = {"max_pixels": str(limits.max_pixels)}
        reading = _Pass(stream, found, limits, skip, starts[0])

        def give(frame: VideoFrame, stamp: int) -> None:
            take(len(times), frame)
            times.append(float(max(0, stamp - timeline.origin) * timeline.time_base))

        held: tuple[VideoFrame, int] | None = None
        for frame, stamp in reading.frames(read_packets(container, stream)):
            while len(times) < len(bounds) and stamp > bounds[len(times)]:
                # Before the first frame that decodes there is only that frame to show.
                give(*(held or (frame, stamp)))
            if len(times) == len(bounds):
                break
            reading.next_start = starts[len(times)]
            held = frame, stamp
        if held is None:
            reason = reading.last_error or "the decoder gave no frame"
            raise Undecodable(
                f"None of the {len(timeline.pts)} packets of video can be decoded ({reason}).", actual=reason
            )
        while len(times) < len(bounds):
            give(*held)
    return Picked(tuple(times), reading.decoded, reading.errors, reading.last_error)


def pick_frames(
    path: Path,
    found: Probe,
    moments: Sequence[float],
    take: Callable[[int, VideoFrame], None],
    limits: VideoLimits,
) -> Picked:
    """Call `take(i, frame)` with the last frame presented at or before `moments[i]` (plus half a tick), for each i.

    For frames that do not decode the nearest earlier good one stands in, at the start the first good one. Frames that
    the decoder mends without a word, from pictures before the damage, count as good.
    `take` may be called again for an i that it has seen: the last call counts.

    Args:
        path: the upload.
        found: what `probe` said of it.
        moments: seconds from the first presented frame, ascending.
        take: receives each picked frame at once, so that no more than one decoded frame is held.
        limits: gives the largest frame and the largest number of frames.

    Raises:
        Undecodable: not a single frame decodes.
        FrameLimit, PixelLimit: the stream is larger than the limits allow.
    """
    if found.family.name in _INDEXED_FAMILIES and found.timeline.complete:
        try:
            return _pick(path, found, moments, take, limits, skip=True)
        except _SkippingUnsafe:
            pass  # the flags of the index do not hold: only decoding everything gives the right frames
    return _pick(path, found, moments, take, limits, skip=False)
