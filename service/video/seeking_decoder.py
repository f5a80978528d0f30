"""Decode no more than the wanted frames need: jump between keyframes, skip pictures that no other refers to.

Everything a container's index and timestamps promise is checked while decoding. The least doubt raises PlanUnsafe, and
the caller decodes the whole stream instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.video.config import VideoLimits
from service.video.decoder import Decoder, Picked, Take
from service.video.packet_index import Packets, changes_setup
from service.video.packet_source import FilePackets, KeptPackets, PacketSource, PlanUnsafe
from service.video.probe import Video
from service.video.segments import IndexedRuns, Key, Run, passed, runs_of_packets
from service.video.source import open_upload
from service.video.timeline import IndexUnreliable

# Families whose index, written by the muxer, can be trusted to lead to a keyframe.
_SEEKABLE_FAMILIES = ("mp4", "matroska")
# Families without such an index whose timestamps are those of presentation; they are read from front to back.
_READABLE_FAMILIES = ("mpegts", "flv")
# A GIF paints each picture over the one before, whatever its keyframe flags say.
_WITHOUT_KEYFRAMES = ("gif",)
# Skipping is exact where the bitstream itself marks pictures that are never referred to.
_MARKS_UNREFERENCED = ("h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8")


def _marks_unreferenced(video: Video) -> bool:
    if video.found.codec == "hevc":
        # Pictures that their own layer does not refer to may still be referred to by a higher one.
        header = bytes(video.stream.codec_context.extradata or b"")
        return len(header) > 22 and header[0] == 1 and (header[21] >> 3) & 7 == 1
    return video.found.codec in _MARKS_UNREFERENCED


def _plan_runs(video: Video, moments: Sequence[float], known: Packets | None) -> list[Run]:
    """What to decode for `moments` (seconds, ascending), of which the packets are `known` or yet to be read.

    Raises:
        PlanUnsafe: the container or the codec does not allow a plan, or its timestamps are in disorder.
    """
    found, timeline = video.found, video.found.timeline
    if found.family.name not in _SEEKABLE_FAMILIES + _READABLE_FAMILIES or found.codec in _WITHOUT_KEYFRAMES:
        raise PlanUnsafe(f"{found.codec} in {found.family.name} is always decoded whole")
    if known is None:
        try:
            return IndexedRuns(video.container, video.stream, found.codec).runs(timeline, moments)
        except IndexUnreliable as error:
            raise PlanUnsafe("the index does not fit the packets") from error
    if timeline.demux_error or not known.orderly:
        raise PlanUnsafe("the timestamps are in disorder")
    return runs_of_packets(known, timeline, moments)


def _known(video: Video, moments: Sequence[float]) -> Packets | None:
    """The packets that were read, if those for all `moments` are among them."""
    timeline = video.found.timeline
    if timeline.head is not None and passed(timeline.head, timeline.ticks(moments[-1])):
        return timeline.head
    return timeline.packets


class _PlannedPass:
    """Carries out the runs on one stream."""

    def __init__(self, video: Video, packets: PacketSource, take: Take, decoder: Decoder) -> None:
        self._packets = packets
        self._take = take
        self._decoder = decoder
        self._whole_frames = video.found.family.name in _SEEKABLE_FAMILIES
        self._skips = _marks_unreferenced(video)
        self.stamps: dict[int, int] = {}

    def carry_out(self, runs: Sequence[Run]) -> None:
        done = -1
        for number, run in enumerate(runs):
            first = self._packets.jump(run.start, done)
            if number:
                self._decoder.restart()
            self._decode(run, first)
            done = run.last

    def _decode(self, run: Run, packet: Packet[VideoStream]) -> None:
        check = _RunCheck(run.start, self._whole_frames)
        left = set(run.wanted)
        while True:
            if changes_setup(packet):
                raise PlanUnsafe("the decoder's setup changes")
            wanted = packet.pts in left
            left.discard(packet.pts)
            self._decoder.skip_unreferenced(self._skips and not wanted)
            self._give(run, check.frames(self._decoder.decode(packet)))
            if not left:
                break
            packet = self._packets.next()
        # What is still inside comes out now: no later packet has to push it.
        self._give(run, check.frames(self._decoder.decode(None)))
        if any(number not in self.stamps for numbers in run.wanted.values() for number in numbers):
            raise PlanUnsafe("a wanted frame did not come out")

    def _give(self, run: Run, frames: Iterator[VideoFrame]) -> None:
        for frame in frames:
            if frame.pts is None:
                raise PlanUnsafe("a frame has no timestamp")
            for number in run.wanted.get(frame.pts, ()):
                self._take(number, frame)
                self.stamps[number] = frame.pts


class _RunCheck:
    """Watches the frames of one run for signs that it did not start at a keyframe, or that the file is damaged."""

    def __init__(self, start: Key | None, whole_frames: bool) -> None:
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


def pick_planned(video: Video, moments: Sequence[float], take: Take, limits: VideoLimits) -> Picked:
    """`pick_frames` by carrying out a plan.

    Raises:
        PlanUnsafe: something is not as planned. `take` may have been called.
    """
    found, timeline = video.found, video.found.timeline
    known = _known(video, moments)
    runs = _plan_runs(video, moments, known)
    # Pictures that lead an open group miss their references, which is no damage.
    mend = any(run.start is not None and run.start.opens for run in runs)
    seekable = found.family.name in _SEEKABLE_FAMILIES
    try:
        with ExitStack() as stack:
            stream = video.stream
            if video.packets and known is not None:
                source: PacketSource = KeptPackets(video.packets)
            elif seekable:
                source = FilePackets(video.container, stream, seekable)
            else:
                container = stack.enter_context(open_upload(video.path, found.family, limits.max_pixels))
                stream = _same_stream(container, found.stream)
                source = FilePackets(container, stream, seekable)
            decoder = Decoder(stream.codec_context, limits, mend)
            planned = _PlannedPass(video, source, take, decoder)
            planned.carry_out(runs)
    except MemoryError:
        raise
    except FFmpegError as error:
        raise PlanUnsafe(str(error.strerror)) from error
    times = tuple(timeline.seconds(planned.stamps[number]) for number in range(len(moments)))
    return Picked(times, decoder.frames, 0, "")
