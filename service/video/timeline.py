"""When each frame of a stream is presented, learnt from its packets."""

from __future__ import annotations

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
from service.video.packet_index import Kept, Packets, collect
from service.video.presentation_clock import PresentationClock, straightened
from service.video.sniff import Family
from service.video.source import read_packets

BEYOND_TICKS = 1 << 40
"""Added to any timestamp, it is beyond the end of the stream."""
# AVI counts pictures, dropped ones too: the length of one is a count of 1, however long it is shown.
_UNTIMED_FAMILIES = ("avi",)
_LEADING_FRAMES = ("vvc",)


class IndexUnreliable(Exception):
    """The container's index does not say what its packets say."""


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
        places: in that case, of a container without an index, bytes of the file and timestamps of packets there.
        head: in that case the first packets, if they were kept for the decoder.
        turns: from which timestamps on the stream itself asks for which display matrix, int32 [9]; mostly empty.
        clock: makes the timestamps of the file those of this timeline; None where they are the same.
        demux_error: what FFmpeg said where reading broke off; None if the file was read to its end.
    """

    time_base: Fraction
    origin: int
    end: int
    frames: int
    packet_count: int
    packets: Packets | None
    demux_error: str | None
    head: Packets | None = None
    places: tuple[tuple[int, int], ...] = ()
    turns: tuple[tuple[int, NDArray[np.int32]], ...] = ()
    clock: PresentationClock | None = None

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

    def ticks(self, time_s: float) -> float:
        """The timestamp that a frame may have at most, to be on screen `moment_s` after the first."""
        return latest_ticks(self.origin, self.tick_s, time_s)


def latest_ticks(origin: int, tick_s: float, time_s: float) -> float:
    """The timestamp that a frame may have at most, to be on screen `time_s` after the one at `origin`."""
    return origin + time_s / tick_s + 0.5


def presented(packets: Packets, origin: int) -> NDArray[np.int64]:
    """int64 [F], timestamps of the presented frames in ticks, ascending."""
    return np.sort(packets.pts[packets.shown & (packets.pts >= origin)])


def turns_of(packets: Packets) -> tuple[tuple[int, NDArray[np.int32]], ...]:
    """`Timeline.turns` of these packets."""
    return tuple((int(packets.pts[place]), matrix) for place, matrix in packets.turns)


def origin_of(packets: Packets, codec: str) -> tuple[int, NDArray[np.bool_]]:
    """The first presented timestamp, and which packets are presented."""
    # Frames that precede the first keyframe in time cannot be decoded, so presentation starts with the keyframe; but
    # encoders of VVC begin with such frames, and in a way that lets them be decoded.
    visible, keys = packets.shown, packets.keyframe
    starts = keys.any() and codec not in _LEADING_FRAMES
    first_key = int(packets.pts[keys][0]) if starts else int(packets.pts[visible].min())
    decodable = visible & (packets.pts >= first_key)
    usable = decodable if decodable.any() else visible
    return int(packets.pts[usable].min()), usable


def end_of(packets: Packets, usable: NDArray[np.bool_], stream: VideoStream, family: Family) -> int:
    """The timestamp at which the last of the `usable` packets (bool [P]) ends."""
    last = int(packets.pts[usable].max())
    duration = int(packets.duration[usable & (packets.pts == last)].max())
    if duration > 0 and family.name not in _UNTIMED_FAMILIES:
        return last + duration
    return last + max(duration, _frame_period(np.sort(packets.pts[usable]), stream))


def _frame_period(shown: NDArray[np.int64], stream: VideoStream) -> int:
    steps = np.diff(shown)
    steps = steps[steps > 0]
    if len(steps):
        return int(np.median(steps))
    if stream.average_rate and stream.time_base:
        return max(1, round(1 / (stream.average_rate * stream.time_base)))
    return 1


def read_timeline(
    packets: Iterable[Packet[Any]], stream: VideoStream, codec: str, family: Family, max_packets: int, kept: Kept
) -> Timeline:
    """Walk all packets of `stream`, and put them into `kept`.

    Raises:
        PacketLimit: there are more than `max_packets`.
        Undecodable: there are none.
    """
    found = collect(packets, codec, max_packets, kept)
    if not found.shown.any() or stream.time_base is None:
        reason = f"reading broke off: {found.error}" if found.error else "its video stream holds no packets"
        raise Undecodable(f"The file has no video to decode: {reason}. Export it again.", actual=reason)
    found, clock = straightened(found, family.name, stream.time_base)
    origin, usable = origin_of(found, codec)
    return Timeline(
        time_base=stream.time_base,
        origin=origin,
        end=end_of(found, usable, stream, family),
        frames=int(usable.sum()),
        packet_count=len(found.pts),
        packets=found,
        demux_error=found.error,
        turns=turns_of(found),
        clock=clock,
    )


def read_ends(
    container: InputContainer,
    stream: VideoStream,
    codec: str,
    family: Family,
    max_packets: int,
    first: int,
    kept: Kept,
) -> Timeline:
    """Read the `first` packets of `stream`, which are put into `kept`, and the last ones; its index knows the rest.

    Raises:
        PacketLimit: the index holds more than `max_packets` packets.
        IndexUnreliable: it does not fit the packets, so that all of them have to be read.
    """
    index = stream.index_entries
    count = len(index)
    if count > max_packets:
        raise PacketLimit(f"The file holds {count} packets of video.", limit=max_packets, actual=count)
    head = collect(islice(read_packets(container, stream), first), codec, max_packets, kept)
    if stream.time_base is None or not (len(head.pts) and head.keyframe[0] and head.shown.any()):
        raise IndexUnreliable
    try:
        # From beyond the end FFmpeg goes back to the last keyframe.
        container.seek(index[count - 1].timestamp + BEYOND_TICKS, stream=stream, backward=True)
    except FFmpegError as error:
        raise IndexUnreliable from error
    tail = collect(read_packets(container, stream), codec, max_packets)
    if head.error or tail.error or not (head.has_valid_timestamps and tail.has_valid_timestamps and tail.shown.any()):
        raise IndexUnreliable
    if len(tail.pts) > count or not tail.keyframe[0] or index[count - len(tail.pts)].timestamp != tail.dts[0]:
        raise IndexUnreliable
    return Timeline(
        time_base=stream.time_base,
        origin=origin_of(head, codec)[0],
        end=end_of(tail, tail.shown, stream, family),
        frames=count - int((~head.shown).sum()) - int((~tail.shown).sum()),
        packet_count=count,
        packets=None,
        demux_error=None,
        head=head if kept.packets else None,
        turns=turns_of(head),
    )
