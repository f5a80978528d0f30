"""When each frame of a stream is presented, learnt from its packets without decoding any."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import PacketLimit, Undecodable
from service.video.source import read_packets

# H.264 and HEVC let at most 16 pictures overtake another on their way from file to screen; other codecs let one.
REORDER_DEPTH = 16
_HEAD_PACKETS = 3 * REORDER_DEPTH
_IDR = 5
_NAL_SEARCH_BYTES = 4096
_BEYOND_TICKS = 1 << 40


class IndexUnreliable(Exception):
    """The container's index does not say what its packets say."""


@dataclass(frozen=True)
class Packets:
    """What a stretch of packets, in the order of the file, says about time.

    Attributes:
        pts: int64 [P], presentation timestamp of each packet in ticks.
        dts: int64 [P], decoding timestamp of each packet in ticks; the presentation timestamp where there is none.
        keyframe: bool [P], whether decoding can start at the packet.
        resumes: bool [P], whether it is a keyframe of H.264 that does not reset the decoder (no IDR picture): what
            follows may name pictures from before, as if they were lost.
        shown: bool [P], whether the packet's frame is presented (edit lists hide some, VP8 has hidden references).
        duration: int64 [P], ticks that the packet's frame is presented; 0 where unknown.
        plain: whether every packet is intact, has its own timestamp and leaves the decoder's setup as it is.
        error: what FFmpeg said where reading broke off; None if it did not.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    resumes: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    duration: NDArray[np.int64]
    plain: bool
    error: str | None

    @property
    def orderly(self) -> bool:
        """Whether timestamps are unique, and reordered no more than a decoder with few pictures in store can undo."""
        order = np.argsort(self.pts, kind="stable")
        unique = bool(np.all(np.diff(self.pts[order]) > 0))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        moved = np.abs(rank - np.arange(len(order)))
        keys = self.pts[self.keyframe]
        return self.plain and unique and int(moved.max(initial=0)) <= REORDER_DEPTH and bool(np.all(np.diff(keys) > 0))

    def opens(self, number: int) -> bool:
        """Whether keyframe `number` starts a group whose pictures may refer to the group before."""
        return bool(self.resumes[number]) or bool(
            np.any(self.pts[number + 1 : number + 1 + REORDER_DEPTH] < self.pts[number])
        )


@dataclass(frozen=True)
class Timeline:
    """The presentation of a video stream.

    Attributes:
        time_base: seconds of one tick.
        origin: timestamp of the first presented frame, in ticks.
        end: timestamp at which the last presented frame ends, in ticks.
        frames: how many frames are presented.
        packet_count: how many packets the stream has.
        packets: all packets; None where only the ends of the stream were read, because an index knows the rest.
        demux_error: what FFmpeg said where reading broke off; None if the file was read to its end.
    """

    time_base: Fraction
    origin: int
    end: int
    frames: int
    packet_count: int
    packets: Packets | None
    demux_error: str | None

    @property
    def tick_s(self) -> float:
        """Seconds of one tick."""
        return float(self.time_base)

    @property
    def duration_s(self) -> float:
        """Seconds from the first presented frame to the end of the last."""
        return float((self.end - self.origin) * self.time_base)

    @property
    def frame_times_s(self) -> list[float]:
        """Seconds from the first presented frame to each presented frame, ascending; empty if not all are known."""
        if self.packets is None:
            return []
        return [self.seconds(pts) for pts in presented(self.packets, self.origin).tolist()]

    def seconds(self, pts: int) -> float:
        """Seconds from the first presented frame to timestamp `pts`."""
        # Whole numbers divide as exactly as fractions do, and many times faster.
        return (pts - self.origin) * self.time_base.numerator / self.time_base.denominator

    @property
    def fps(self) -> float | None:
        """Average frames per second; None for fewer than two frames."""
        return self.frames / self.duration_s if self.frames > 1 and self.duration_s > 0 else None

    def ticks(self, moment_s: float) -> float:
        """The timestamp that a frame may have at most, to be on screen `moment_s` after the first."""
        return self.origin + moment_s / self.tick_s + 0.5


def presented(packets: Packets, origin: int) -> NDArray[np.int64]:
    """int64 [F], timestamps of the presented frames in ticks, ascending."""
    return np.sort(packets.pts[packets.shown & (packets.pts >= origin)])


def collect(packets: Iterable[Packet[Any]], codec: str, max_packets: int) -> Packets:
    """Note what `packets` say.

    Raises:
        PacketLimit: there are more than `max_packets`.
    """
    pts, dts, durations = array("q"), array("q"), array("q")
    keyframe, resumes, shown = bytearray(), bytearray(), bytearray()
    plain, error = True, None
    following = 0
    try:
        for packet in packets:
            if len(pts) == max_packets:
                raise PacketLimit(
                    f"The file holds more than {max_packets} packets of video.", limit=max_packets, actual=len(pts) + 1
                )
            stamp = packet.pts
            if stamp is None:
                plain = False
                stamp = packet.dts if packet.dts is not None else following
            elif plain and (packet.is_corrupt or changes_setup(packet)):
                plain = False
            duration = packet.duration or 0
            following = stamp + max(duration, 1)
            pts.append(stamp)
            dts.append(stamp if packet.dts is None else packet.dts)
            durations.append(duration)
            keyframe.append(packet.is_keyframe)
            resumes.append(codec == "h264" and packet.is_keyframe and not _is_idr(memoryview(packet)))
            shown.append(not packet.is_discard and not (codec == "vp8" and _hidden_vp8(packet)))
    except FFmpegError as caught:
        error = str(caught.strerror)
    return Packets(
        pts=np.array(pts, dtype=np.int64),
        dts=np.array(dts, dtype=np.int64),
        keyframe=np.array(keyframe, dtype=np.bool_),
        resumes=np.array(resumes, dtype=np.bool_),
        shown=np.array(shown, dtype=np.bool_),
        duration=np.array(durations, dtype=np.int64),
        plain=plain,
        error=error,
    )


def changes_setup(packet: Packet[Any]) -> bool:
    """Whether the packet carries new parameters, which a decoder that skips it would miss."""
    # A loop, because it runs for every packet and a generator costs twice as much.
    for data in packet.iter_sidedata():
        if data.data_type in ("new_extradata", "param_change"):
            return True
    return False


def _is_idr(data: memoryview) -> bool:
    """Whether the first slice of an H.264 packet is of an IDR picture; False too where that cannot be told."""
    start_codes = bytes(data[:4]) == b"\0\0\0\1" or bytes(data[:3]) == b"\0\0\1"
    if start_codes:
        units = (part[0] & 0x1F for part in bytes(data[:_NAL_SEARCH_BYTES]).split(b"\0\0\1") if part)
        return next((kind for kind in units if 1 <= kind <= _IDR), 0) == _IDR
    position = 0
    while position + 4 < len(data):
        kind = data[position + 4] & 0x1F
        if 1 <= kind <= _IDR:
            return kind == _IDR
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    return False


def _hidden_vp8(packet: Packet[Any]) -> bool:
    # Bit 4 of a VP8 frame's first byte says that it is shown.
    return not memoryview(packet)[0] & 0x10


def _origin(packets: Packets) -> tuple[int, NDArray[np.bool_]]:
    """The first presented timestamp, and which packets are presented."""
    # Frames that precede the first keyframe in time cannot be decoded, so presentation starts with the keyframe.
    visible, keys = packets.shown, packets.keyframe
    first_key = int(packets.pts[keys][0]) if keys.any() else int(packets.pts[visible].min())
    decodable = visible & (packets.pts >= first_key)
    usable = decodable if decodable.any() else visible
    return int(packets.pts[usable].min()), usable


def _end(packets: Packets, usable: NDArray[np.bool_], stream: VideoStream) -> int:
    last = int(packets.pts[usable].max())
    duration = int(packets.duration[usable & (packets.pts == last)].max())
    return last + (duration if duration > 0 else _frame_period(np.sort(packets.pts[usable]), stream))


def _frame_period(shown: NDArray[np.int64], stream: VideoStream) -> int:
    steps = np.diff(shown)
    steps = steps[steps > 0]
    if len(steps):
        return int(np.median(steps))
    if stream.average_rate and stream.time_base:
        return max(1, round(1 / (stream.average_rate * stream.time_base)))
    return 1


def read_timeline(packets: Iterable[Packet[Any]], stream: VideoStream, codec: str, max_packets: int) -> Timeline:
    """Walk all packets of `stream`.

    Raises:
        PacketLimit: there are more than `max_packets`.
        Undecodable: there are none.
    """
    found = collect(packets, codec, max_packets)
    if not found.shown.any() or stream.time_base is None:
        reason = f"reading broke off: {found.error}" if found.error else "its video stream holds no packets"
        raise Undecodable(f"The file has no video to decode: {reason}.", actual=reason)
    origin, usable = _origin(found)
    return Timeline(
        time_base=stream.time_base,
        origin=origin,
        end=_end(found, usable, stream),
        frames=int(usable.sum()),
        packet_count=len(found.pts),
        packets=found,
        demux_error=found.error,
    )


def read_ends(container: InputContainer, stream: VideoStream, codec: str, max_packets: int) -> Timeline:
    """Read the first and the last packets of `stream` only; its index knows where those between them are.

    Raises:
        PacketLimit: the index holds more than `max_packets` packets.
        IndexUnreliable: it does not fit the packets, so that all of them have to be read.
    """
    index = stream.index_entries
    count = len(index)
    if count > max_packets:
        raise PacketLimit(f"The file holds {count} packets of video.", limit=max_packets, actual=count)
    head = collect(islice(read_packets(container, stream), _HEAD_PACKETS), codec, max_packets)
    if stream.time_base is None or not (len(head.pts) and head.keyframe[0] and head.shown.any()):
        raise IndexUnreliable
    try:
        # From beyond the end FFmpeg goes back to the last keyframe.
        container.seek(index[count - 1].timestamp + _BEYOND_TICKS, stream=stream, backward=True)
    except FFmpegError as error:
        raise IndexUnreliable from error
    tail = collect(read_packets(container, stream), codec, max_packets)
    if head.error or tail.error or not (head.orderly and tail.orderly and tail.shown.any()):
        raise IndexUnreliable
    if len(tail.pts) > count or not tail.keyframe[0] or index[count - len(tail.pts)].timestamp != tail.dts[0]:
        raise IndexUnreliable
    return Timeline(
        time_base=stream.time_base,
        origin=_origin(head)[0],
        end=_end(tail, tail.shown, stream),
        frames=count - int((~head.shown).sum()) - int((~tail.shown).sum()),
        packet_count=count,
        packets=None,
        demux_error=None,
    )
