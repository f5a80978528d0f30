"""RTP packets of one video to its access units: RFC 3550, RFC 6184 for H.264, RFC 7798 for HEVC.

It runs in a sandbox worker. Packets come in order, for they came over TCP; what the sender left out is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.contracts.rtp_records import RtpVideo
from service.errors import Undecodable

LARGEST_UNIT_BYTES = 16 << 20
"""the most that is held of one access unit"""
_HEAD = struct.Struct("!BBHII")
_VERSION = 2
_START = b"\0\0\0\1"
_TICKS = 1 << 32


@dataclass(frozen=True)
class Packet:
    """An RTP packet that carries the video."""

    sequence: int
    ticks: int
    source: int
    marked: bool
    payload: bytes


@dataclass(frozen=True)
class AccessUnit:
    """One picture as an Annex B byte stream. `ticks` of 90 kHz say when it is shown; they do not wrap."""

    data: bytes
    ticks: int
    keyframe: bool


def parse_packet(data: bytes, payload_type: int) -> Packet | None:
    """The packet, or None for one of another payload and for what is no packet of RTP."""
    if len(data) < _HEAD.size:
        return None
    first, second, sequence, ticks, source = _HEAD.unpack_from(data)
    if first >> 6 != _VERSION or second & 0x7F != payload_type:
        return None
    begin, end = _HEAD.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:
        if end < begin + 4:
            return None
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    if first & 0x20:
        end -= data[-1] or end
    return Packet(sequence, ticks, source, bool(second & 0x80), data[begin:end]) if begin < end else None


@dataclass(frozen=True)
class _Codec:
    """How the payload of a codec is told apart: bytes of a NAL unit's header, and what its types mean."""

    header: int
    aggregate: int
    fragment: int
    most_single: int
    sets: tuple[int, ...]
    first_set: int
    keys: range

    def type_of(self, unit: bytes) -> int:
        return unit[0] & 0x1F if self.header == 1 else unit[0] >> 1 & 0x3F


_CODECS = {
    "h264": _Codec(1, aggregate=24, fragment=28, most_single=23, sets=(7, 8), first_set=7, keys=range(5, 6)),
    "hevc": _Codec(2, aggregate=48, fragment=49, most_single=47, sets=(32, 33, 34), first_set=33, keys=range(16, 24)),
}


class Depacketizer:
    """Puts access units together. A keyframe that comes without parameter sets gets those of the description."""

    def __init__(self, video: RtpVideo) -> None:
        """`video` is of H.264 or HEVC."""
        self._codec = _CODECS[video.codec]
        self._sets = [one for one in video.parameter_sets if one]
        self._source: int | None = None
        self._sequence = 0
        self._stamp = 0
        self._ticks = 0
        self._units: list[bytes] = []
        self._held = 0
        self._fragment: list[bytes] | None = None

    def units(self, packet: Packet) -> Iterator[AccessUnit]:
        """The access units that are complete with this packet. Raises Undecodable for one that is too large."""
        if packet.source != self._source:
            yield from self._complete()
            self._source, self._stamp, self._ticks = packet.source, packet.ticks, packet.ticks
        else:
            if packet.sequence != (self._sequence + 1) % (1 << 16):
                # The rest of a unit of which a packet is missing is no unit.
                self._fragment = None
            if packet.ticks != self._stamp:
                yield from self._complete()
                step = (packet.ticks - self._stamp) % _TICKS
                self._ticks += step - _TICKS if step >= _TICKS // 2 else step
                self._stamp = packet.ticks
        self._sequence = packet.sequence
        self._take(packet.payload)
        if packet.marked:
            yield from self._complete()

    def end(self) -> Iterator[AccessUnit]:
        """The last access unit, where no packet said that it is complete."""
        yield from self._complete()

    def _take(self, payload: bytes) -> None:
        codec = self._codec
        if len(payload) <= codec.header:
            return
        kind = codec.type_of(payload)
        if kind == codec.aggregate:
            self._take_aggregate(payload[codec.header :])
        elif kind == codec.fragment:
            self._take_fragment(payload)
        elif kind <= codec.most_single:
            self._add(payload)

    def _take_aggregate(self, data: bytes) -> None:
        at = 0
        while at + 2 <= len(data):
            size = int.from_bytes(data[at : at + 2], "big")
            unit = data[at + 2 : at + 2 + size]
            if len(unit) != size or size <= self._codec.header:
                return
            self._add(unit)
            at += 2 + size

    def _take_fragment(self, payload: bytes) -> None:
        codec = self._codec
        said, rest = payload[codec.header], payload[codec.header + 1 :]
        if said & 0x80:
            if codec.header == 1:
                header = bytes([payload[0] & 0xE0 | said & 0x1F])
            else:
                header = bytes([payload[0] & 0x81 | (said & 0x3F) << 1, payload[1]])
            self._fragment = [header]
        if self._fragment is None:
            return
        self._fragment.append(rest)
        self._hold(len(rest))
        if said & 0x40:
            unit, self._fragment = b"".join(self._fragment), None
            self._held -= len(unit) - codec.header
            self._add(unit)

    def _add(self, unit: bytes) -> None:
        self._fragment = None
        self._hold(len(unit))
        self._units.append(unit)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > LARGEST_UNIT_BYTES:
            raise Undecodable(
                f"A picture of the stream has more than {LARGEST_UNIT_BYTES} bytes.",
                limit=LARGEST_UNIT_BYTES,
                actual=self._held,
            )

    def _complete(self) -> Iterator[AccessUnit]:
        units, codec = self._units, self._codec
        self._units, self._fragment, self._held = [], None, 0
        if not units:
            return
        kinds = [codec.type_of(unit) for unit in units]
        keyframe = any(kind in codec.keys for kind in kinds)
        if keyframe and codec.first_set not in kinds:
            units = [*self._sets, *units]
        elif codec.first_set in kinds:
            # The newest ones count, also for a keyframe that comes without.
            self._sets = [unit for unit, kind in zip(units, kinds, strict=True) if kind in codec.sets]
        yield AccessUnit(b"".join(_START + unit for unit in units), self._ticks, keyframe)
