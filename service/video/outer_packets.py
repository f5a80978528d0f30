"""The timeline of a large source that would have to be fetched as a whole to see all of its packets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import dropwhile, islice, pairwise

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from service.errors import PacketLimit
from service.video.packet_index import REORDER_DEPTH, Packets, collect
from service.video.presentation_clock import straightened
from service.video.sniff import Family
from service.video.source import read_packets
from service.video.stretches import place_at, seek_bytes
from service.video.timeline import BEYOND_TICKS, IndexUnreliable, Timeline, end_of, origin_of, turns_of

FAMILIES = ("matroska", "mpegts")
_FIRST_PACKETS = 3 * REORDER_DEPTH
# Where a keyframe is looked for, from the end of a transport stream.
_LAST_BYTES = (1 << 18, 1 << 20, 1 << 22, 1 << 24)
# A clock that does not run evenly through so many parts of a transport stream is none of one recording.
_PARTS = 5
_UNEVEN = 4
# Matroska counts milliseconds.
_RATE_TOLERANCE = 0.02


def read_outer_packets(
    container: InputContainer, stream: VideoStream, codec: str, family: Family, size: int, max_packets: int
) -> Timeline:
    """Read the first and the last packets of `stream`, in Matroska or a transport stream of `size` bytes.

    The number of frames is that of the rate of the file; 0 where that varies.

    Raises:
        PacketLimit: there are more than `max_packets` packets.
        IndexUnreliable: they do not fit each other, so that all of them have to be read.
    """
    transport = family.name == "mpegts"
    positions: list[int] = []
    head = collect(_noted(islice(read_packets(container, stream), _FIRST_PACKETS), positions), codec, max_packets)
    if stream.time_base is None or not (_sound(head) and head.keyframe.any()):
        raise IndexUnreliable
    if straightened(head, family.name, stream.time_base)[1] is not None:
        raise IndexUnreliable
    try:
        begin, tail = (
            _transport_tail(container, stream, codec, size, max_packets)
            if transport
            else (0, _cued_tail(container, stream, codec, max_packets, head))
        )
        places = _places(container, stream, (positions[0], int(head.pts[0])), begin, tail) if transport else ()
    except FFmpegError as error:
        raise IndexUnreliable from error
    if straightened(tail, family.name, stream.time_base)[1] is not None:
        raise IndexUnreliable
    origin, end = origin_of(head, codec)[0], end_of(tail, tail.shown, stream, family)
    rate = _rate(stream.average_rate, stream.time_base, head, tail)
    frames = round((end - origin) * stream.time_base * rate)
    if frames > max_packets:
        raise PacketLimit(f"The file holds about {frames} packets of video.", limit=max_packets, actual=frames)
    return Timeline(
        time_base=stream.time_base,
        origin=origin,
        end=end,
        frames=frames,
        packet_count=frames,
        packets=None,
        demux_error=None,
        turns=turns_of(head),
        places=places,
    )


def _sound(packets: Packets) -> bool:
    return not packets.error and packets.has_valid_timestamps and bool(packets.shown.any())


def _rate(stated: Fraction | None, time_base: Fraction, *known: Packets) -> Fraction:
    """Frames per second that the file states and its ends keep; else 0."""
    if stated is None:
        return Fraction(0)
    for packets in known:
        # Not the mean: pictures that overtake others leave gaps where reading ended.
        step = float(np.median(np.diff(np.sort(packets.pts)))) * float(time_base) if len(packets.pts) > 1 else 0.0
        if abs(step * stated - 1) > _RATE_TOLERANCE:
            return Fraction(0)
    return stated


def _checked_tail(tail: Packets) -> Packets:
    last = tail.pts.argmax() if len(tail.pts) else 0
    if not _sound(tail) or not tail.keyframe[0] or tail.duration[last] <= 0:
        raise IndexUnreliable
    return tail


def _noted(packets: Iterable[Packet[VideoStream]], positions: list[int]) -> Iterator[Packet[VideoStream]]:
    for packet in packets:
        if packet.pos is None:
            raise IndexUnreliable
        positions.append(packet.pos)
        yield packet


def _cued_tail(container: InputContainer, stream: VideoStream, codec: str, max_packets: int, head: Packets) -> Packets:
    """The packets from the last cue on."""
    container.seek(int(head.pts[0]) + BEYOND_TICKS, stream=stream, backward=True)
    tail = _checked_tail(collect(read_packets(container, stream), codec, max_packets))
    index = stream.index_entries
    cues = [index[number] for number in range(len(index))]
    # FFmpeg sorts cues by time: where a recording begins anew they go back in the file. Several may be in one cluster.
    if len(cues) < 2 or any(cue.pos > after.pos for cue, after in pairwise(cues)):
        raise IndexUnreliable
    if cues[0].timestamp > head.pts[head.keyframe][0]:
        raise IndexUnreliable
    return tail


def _transport_tail(
    container: InputContainer, stream: VideoStream, codec: str, size: int, max_packets: int
) -> tuple[int, Packets]:
    """The packets from a keyframe near the end on, and the byte where they begin."""
    for back in _LAST_BYTES:
        positions: list[int] = []
        seek_bytes(container, size - back)
        keyed = dropwhile(lambda packet: not packet.is_keyframe, read_packets(container, stream))
        tail = collect(_noted(keyed, positions), codec, max_packets)
        if len(tail.pts):
            return positions[0], _checked_tail(tail)
    raise IndexUnreliable


def _places(
    container: InputContainer, stream: VideoStream, first: tuple[int, int], last: int, tail: Packets
) -> tuple[tuple[int, int], ...]:
    """Bytes of a transport stream and their timestamps, from its beginning to its tail. Raises IndexUnreliable."""
    begin = first[0]
    inner = [place_at(container, stream, begin + (last - begin) * part // _PARTS) for part in range(1, _PARTS)]
    places = (first, *inner, (last, int(tail.pts[0])))
    rates = [(after[1] - before[1]) / max(1, after[0] - before[0]) for before, after in pairwise(places)]
    usual = float(np.median(rates))
    if usual <= 0 or not all(usual / _UNEVEN <= rate <= usual * _UNEVEN for rate in rates):
        raise IndexUnreliable
    return places
