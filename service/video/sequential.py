"""Decode a stream from front to back, every packet of it, and pick frames by time: slow, and right for any file."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import Undecodable
from service.video.config import VideoLimits
from service.video.decoder import Decoder, DecodeStats, FrameSink
from service.video.probe import Video
from service.video.source import open_upload, read_packets

# Of these FFmpeg knows decoding times only: frames come out in display order with their times shuffled among neighbors.
_REORDERED_FAMILIES = ("avi", "mxf")
_REORDER_DEPTH = 4


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


class Reading:
    """One reading of a stream that bridges damage and counts it.

    Attributes:
        errors: how many packets did not decode, or only in parts.
        last_error: what was wrong with the last of them.
    """

    def __init__(self, decoder: Decoder, depth: int) -> None:
        """`depth` is how many frames may come out with their times shuffled among them."""
        self._decoder = decoder
        self._times = _Times(depth)
        self.errors = 0
        self.last_error = ""

    def frames(self, packets: Iterator[Packet[VideoStream] | None]) -> Iterator[tuple[VideoFrame, int]]:
        """Decoded frames with their times in ticks, in display order.

        After None among the packets decoding begins anew: the frames before it come out, and the next is a keyframe.
        """
        try:
            for packet in packets:
                yield from self._decode(packet)
                if packet is None:
                    self._decoder.restart()
        except FFmpegError as error:
            self._note(str(error.strerror))
        yield from self._decode(None)
        yield from self._times.flush()

    def _decode(self, packet: Packet[VideoStream] | None) -> Iterator[tuple[VideoFrame, int]]:
        try:
            frames = self._decoder.decode(packet)
        except MemoryError:
            raise  # FFmpeg's own kind is one of its errors too, but is no sign of damage
        except FFmpegError as error:
            self._note(str(error.strerror))
            return
        for frame in frames:
            if frame.is_corrupt:
                self._note("a picture lacks parts of its references")
            else:
                yield from self._times.push(frame)

    def _note(self, reason: str) -> None:
        self.errors += 1
        self.last_error = reason


def pick_sequentially(
    video: Video,
    timestamps: Sequence[float],
    sink: FrameSink,
    limits: VideoLimits,
    settled: Callable[[int, float], None] | None = None,
) -> DecodeStats:
    """`pick_frames` by decoding everything up to the last wanted frame.

    `settled` is told the number and the presentation time of each wanted timestamp once `sink` has its frame.
    """
    probe, timeline = video.probe, video.probe.timeline
    bounds = [timeline.ticks(timestamp) for timestamp in timestamps]
    times: list[float] = []
    with open_upload(video.path, probe.family, limits.max_pixels) as container:
        stream = container.streams[probe.stream]
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise Undecodable("The video stream cannot be found again; the container is damaged.")
        decoder = Decoder(stream.codec_context, limits)
        reading = Reading(decoder, _REORDER_DEPTH if probe.family.name in _REORDERED_FAMILIES else 0)

        def give(frame: VideoFrame, stamp: int) -> None:
            sink(len(times), frame)
            times.append(float(max(0, stamp - timeline.origin) * timeline.time_base))
            if settled is not None:
                settled(len(times) - 1, times[-1])

        held: tuple[VideoFrame, int] | None = None
        packets = read_packets(container, stream)
        if timeline.clock is not None:
            packets = timeline.clock.continued(packets)
        for frame, stamp in reading.frames(packets):
            while len(times) < len(bounds) and stamp > bounds[len(times)]:
                # Before the first frame that decodes there is only that frame to show.
                give(*(held or (frame, stamp)))
            if len(times) == len(bounds):
                break
            held = frame, stamp
        if held is None:
            reason = reading.last_error or "the decoder gave no frame"
            raise Undecodable(
                f"None of the {timeline.packet_count} packets of video can be decoded ({reason}).", actual=reason
            )
        while len(times) < len(bounds):
            give(*held)
    return DecodeStats(tuple(times), decoder.frames, reading.errors, reading.last_error)
