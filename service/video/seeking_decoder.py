"""Decode no more than the wanted frames need: jump between keyframes, skip pictures that no other refers to.

Everything a container's index and timestamps promise is checked while decoding. The least doubt raises PlanUnsafe, and
the caller decodes the whole stream instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.video.config import VideoLimits
from service.video.decoder import Decoder, DecodeStats, FrameSink, Settled
from service.video.frame_data import changes_setup
from service.video.packet_index import Packets
from service.video.packet_source import FilePackets, KeptPackets, PacketSource, PlanUnsafe
from service.video.probe import Video
from service.video.segments import DecodeSegment, IndexedSegments, Keyframe, passed, segments_of_packets
from service.video.source import open_upload
from service.video.stretches import StretchSegments, seek_bytes
from service.video.timeline import IndexUnreliable

# Families whose index, written by the muxer, can be trusted to lead to a keyframe.
_SEEKABLE_FAMILIES = ("mp4", "matroska")
# Families without such an index whose timestamps are those of presentation; they are read from front to back.
_READABLE_FAMILIES = ("mpegts", "flv", "asf", "mxf")
# A plan reads every packet of the stretches that are wanted: of an MP4 that is followed these times are planned, and
# decoded, before the others.
_SOON = 256
# FFmpeg takes the decoding times of these for those of presentation.
_UNORDERED = (("mxf", "h264"),)
# A GIF paints each picture over the one before, whatever its keyframe flags say. Of VC-1 FFmpeg's parser takes any
# picture for a keyframe, whatever the container says.
_WITHOUT_KEYFRAMES = ("gif", "vc1")
# Skipping is exact where the bitstream itself marks pictures that are never referred to.
_MARKS_UNREFERENCED = ("h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8")


def _marks_unreferenced(video: Video) -> bool:
    if video.probe.codec == "hevc":
        # Pictures that their own layer does not refer to may still be referred to by a higher one.
        header = bytes(video.stream.codec_context.extradata or b"")
        return len(header) > 22 and header[0] == 1 and (header[21] >> 3) & 7 == 1
    return video.probe.codec in _MARKS_UNREFERENCED


def _plan_segments(video: Video, timestamps: Sequence[float], known: Packets | None) -> list[DecodeSegment]:
    """What to decode for `timestamps` (seconds, ascending), of which the packets are `known` or yet to be read.

    Raises:
        PlanUnsafe: the container or the codec does not allow a plan, or its timestamps are in disorder.
    """
    probe, timeline = video.probe, video.probe.timeline
    if probe.family.name not in _SEEKABLE_FAMILIES + _READABLE_FAMILIES or probe.codec in _WITHOUT_KEYFRAMES:
        raise PlanUnsafe(f"{probe.codec} in {probe.family.name} is always decoded whole")
    if (probe.family.name, probe.codec) in _UNORDERED:
        raise PlanUnsafe("the timestamps are those of decoding")
    if known is None:
        try:
            if probe.family.name != "mp4":
                stretches = StretchSegments(video.container, video.stream, probe.family, timeline)
                return stretches.segments(timestamps)
            return IndexedSegments(video.container, video.stream, probe.codec).segments(timeline, timestamps)
        except IndexUnreliable as error:
            raise PlanUnsafe("the index does not fit the packets") from error
    if timeline.clock is not None:
        raise PlanUnsafe("the timestamps of the file are not those of its presentation")
    if timeline.demux_error or not known.has_valid_timestamps:
        raise PlanUnsafe("the timestamps are in disorder")
    return segments_of_packets(known, timeline, timestamps)


def _known(video: Video, timestamps: Sequence[float]) -> Packets | None:
    """The packets that were read, if those for all `timestamps` are among them."""
    timeline = video.probe.timeline
    if timeline.head is not None and passed(timeline.head, timeline.ticks(timestamps[-1])):
        return timeline.head
    return timeline.packets


class _PlannedPass:
    """Decodes the segments of one stream."""

    def __init__(
        self, video: Video, packets: PacketSource, sink: FrameSink, decoder: Decoder, settled: Settled | None
    ) -> None:
        self._packets = packets
        self._sink = sink
        self._decoder = decoder
        self._settled = settled
        self._timeline = video.probe.timeline
        self._whole_frames = video.probe.family.name in _SEEKABLE_FAMILIES
        self._skips = _marks_unreferenced(video)
        self.stamps: dict[int, int] = {}

    def carry_out(self, segments: Sequence[DecodeSegment]) -> None:
        done, settled = -1, len(self.stamps)
        for segment in segments:
            first = self._packets.jump(segment.start, done)
            if self.stamps:
                self._decoder.restart()
            self._decode(segment, first)
            done = segment.last
            if self._settled is not None:
                # Checked to its end, and later segments do not change it.
                self._settled([self._timeline.seconds(self.stamps[at]) for at in range(settled, len(self.stamps))])
                settled = len(self.stamps)

    def _decode(self, segment: DecodeSegment, packet: Packet[VideoStream]) -> None:
        check = _SegmentCheck(segment.start, self._whole_frames)
        left = set(segment.wanted)
        while True:
            if changes_setup(packet):
                raise PlanUnsafe("the decoder's setup changes")
            wanted = packet.pts in left
            left.discard(packet.pts)
            self._decoder.skip_unreferenced(self._skips and not wanted)
            self._give(segment, check.frames(self._decoder.decode(packet)))
            if not left:
                break
            packet = self._packets.next()
        # What is still inside comes out now: no later packet has to push it.
        self._give(segment, check.frames(self._decoder.decode(None)))
        if any(number not in self.stamps for numbers in segment.wanted.values() for number in numbers):
            raise PlanUnsafe("a wanted frame did not come out")

    def _give(self, segment: DecodeSegment, frames: Iterator[VideoFrame]) -> None:
        for frame in frames:
            if frame.pts is None:
                raise PlanUnsafe("a frame has no timestamp")
            for number in segment.wanted.get(frame.pts, ()):
                self._sink(number, frame)
                self.stamps[number] = frame.pts


class _SegmentCheck:
    """Watches the frames of one segment for signs that it did not start at a keyframe, or that the file is damaged."""

    def __init__(self, start: Keyframe | None, whole_frames: bool) -> None:
        self._start = start
        self._whole_frames = whole_frames
        self._last: int | None = None

    def frames(self, frames: list[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.pts is None:
                raise PlanUnsafe("a frame has no timestamp")
            if self._start is not None and frame.pts < self._start.pts:
                continue  # belongs to the group before, of which it misses the references
            if frame.is_corrupt:
                raise PlanUnsafe("a picture lacks parts of its references")
            if frame.interlaced_frame and not self._whole_frames:
                raise PlanUnsafe("a packet may hold a single field")
            if self._last is None:
                if self._start is not None and (frame.pts != self._start.pts or not frame.key_frame):
                    raise PlanUnsafe("decoding does not start at the keyframe")
            elif frame.pts <= self._last:
                raise PlanUnsafe("frames come out in disorder")
            self._last = frame.pts
            yield frame


def _same_stream(container: InputContainer, index: int) -> VideoStream:
    stream = container.streams[index]
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise PlanUnsafe("the video stream cannot be found again")
    return stream


def _seek_of(video: Video) -> Callable[[Keyframe], None] | None:
    """How to go to a keyframe; None where its container is read from front to back."""
    if video.probe.timeline.places:
        return lambda key: seek_bytes(video.container, key.order)
    if video.probe.family.name in _SEEKABLE_FAMILIES:
        return lambda key: video.container.seek(key.pts, stream=video.stream, backward=True)
    return None


def _open_groups(segments: Sequence[DecodeSegment]) -> bool:
    """Whether pictures may miss their references that lead a group, which is no damage."""
    return any(segment.start is not None and segment.start.open_gop for segment in segments)


def _numbered_from(first: int, segments: list[DecodeSegment]) -> list[DecodeSegment]:
    """The segments of the timestamps from number `first` on, with the numbers of all."""
    for segment in segments:
        segment.wanted = {pts: [first + number for number in numbers] for pts, numbers in segment.wanted.items()}
    return segments


def pick_planned(
    video: Video, timestamps: Sequence[float], sink: FrameSink, limits: VideoLimits, settled: Settled | None = None
) -> DecodeStats:
    """`pick_frames` by carrying out a plan.

    Raises:
        PlanUnsafe: something is not as planned. `sink` may have been called.
    """
    probe, timeline = video.probe, video.probe.timeline
    known = _known(video, timestamps)
    soon = settled is not None and known is None and probe.family.name == "mp4"
    first = _SOON if soon else len(timestamps)
    segments = _plan_segments(video, timestamps[:first], known)
    mend = _open_groups(segments)
    seek = _seek_of(video)
    try:
        with ExitStack() as stack:
            stream = video.stream
            if video.packets and known is not None:
                source: PacketSource = KeptPackets(video.packets)
            elif seek is not None:
                source = FilePackets(video.container, stream, seek)
            else:
                container = stack.enter_context(open_upload(video.path, probe.family, limits.max_pixels))
                stream = _same_stream(container, probe.stream)
                source = FilePackets(container, stream, None)
            decoder = Decoder(stream.codec_context, limits, mend)
            planned = _PlannedPass(video, source, sink, decoder, settled)
            planned.carry_out(segments)
            if first < len(timestamps):
                segments = _numbered_from(first, _plan_segments(video, timestamps[first:], known))
                if _open_groups(segments) and not mend:
                    raise PlanUnsafe("groups are open that were closed before")
                planned.carry_out(segments)
    except MemoryError:
        raise
    except FFmpegError as error:
        raise PlanUnsafe(str(error.strerror)) from error
    times = tuple(timeline.seconds(planned.stamps[number]) for number in range(len(timestamps)))
    return DecodeStats(times, decoder.frames, 0, "")
