"""Segments of large sources that no index names every packet of: stretches of packets around each target are read.

Matroska has cues, which lead to keyframes; FFmpeg seeks by them. A transport stream has nothing: its bytes are searched
for a time, between places whose times are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import dropwhile

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.errors import PacketLimit
from service.video.packet_index import Packets, collect
from service.video.presentation_clock import straightened
from service.video.segments import DecodeSegment, Keyframe, Target, merge, passed, until_passed
from service.video.sniff import Family
from service.video.source import read_packets
from service.video.timeline import IndexUnreliable, Timeline

# From so long before a target on a keyframe is looked for, longer each time.
_BEFORE_S = (2.5, 10.0, 40.0, 160.0)
# Nearer to where reading should begin it begins.
_NEAR_S = 4.0
_TRIES = 24
# Where keyframes are further apart all packets are read.
_MOST_PACKETS = 20_000


def seek_bytes(container: InputContainer, offset: int) -> None:
    """Go to a byte of the file. Raises FFmpegError."""
    container.seek(offset, unsupported_byte_offset=True)


class StretchSegments:
    """Finds segments in Matroska and in transport streams of which only the ends are known."""

    def __init__(self, container: InputContainer, stream: VideoStream, family: Family, timeline: Timeline) -> None:
        self._container = container
        self._stream = stream
        self._family = family.name
        self._codec = stream.codec_context.codec.canonical_name
        self._timeline = timeline
        self._known = list(timeline.places)

    def segments(self, timestamps: Sequence[float]) -> list[DecodeSegment]:
        """The segments for `timestamps` (seconds, ascending).

        Raises:
            IndexUnreliable: the packets are not what their container, or the ends of the stream, promise.
        """
        targets: list[Target] = []
        stretch: _Stretch | None = None
        for timestamp in timestamps:
            bound = self._timeline.ticks(timestamp)
            if stretch is None or not passed(stretch.packets, bound):
                try:
                    stretch = self._read(bound)
                except FFmpegError as error:
                    raise IndexUnreliable from error
            targets.append(stretch.target(bound, self._timeline.origin))
        return merge(targets)

    def _read(self, bound: float) -> _Stretch:
        if not self._timeline.places:
            self._container.seek(int(bound), stream=self._stream, backward=True)
            return self._stretch(bound)
        for before_s in _BEFORE_S:
            self._approach(bound - before_s / self._timeline.tick_s)
            stretch = self._stretch(bound)
            if stretch.shows(bound):
                return stretch
        raise IndexUnreliable

    def _stretch(self, bound: float) -> _Stretch:
        """The packets from the next keyframe up to where none can be shown by `bound` any more."""
        positions: list[int] = []

        def noted() -> Iterator[Packet[VideoStream]]:
            for packet in dropwhile(lambda packet: not packet.is_keyframe, read_packets(self._container, self._stream)):
                positions.append(-1 if packet.pos is None else packet.pos)
                yield packet

        try:
            packets = collect(until_passed(noted(), bound), self._codec, _MOST_PACKETS)
        except PacketLimit as error:
            raise IndexUnreliable from error
        leaps = straightened(packets, self._family, self._timeline.time_base)[1] is not None
        if packets.error or leaps or not packets.has_valid_timestamps:
            raise IndexUnreliable
        return _Stretch(packets, np.array(positions[: len(packets.pts)], dtype=np.int64))

    def _approach(self, wanted: float) -> None:
        """Go to a byte of a transport stream a little before the timestamp `wanted`."""
        (low, early), *_, (high, late) = self._known
        for place, pts in self._known:
            if pts <= wanted:
                low, early = place, pts
            else:
                high, late = place, pts
                break
        near = _NEAR_S / self._timeline.tick_s
        for _ in range(_TRIES):
            if wanted - early <= near or high - low <= 1:
                break
            middle = low + int((high - low) * min(0.95, max(0.0, (wanted - near / 2 - early) / (late - early))))
            place, pts = place_at(self._container, self._stream, max(middle, low + 1))
            if place >= high:
                break
            if not early < pts < late:
                raise IndexUnreliable
            self._known = sorted({*self._known, (place, pts)})
            if pts <= wanted:
                low, early = place, pts
            else:
                high, late = max(middle, low + 1), pts
        seek_bytes(self._container, low)


class _Stretch:
    """Packets that begin with a keyframe, and where they lie in the file."""

    def __init__(self, packets: Packets, positions: NDArray[np.int64]) -> None:
        if not len(packets.pts) or positions[0] < 0 or (np.diff(positions) <= 0).any():
            raise IndexUnreliable
        self.packets = packets
        self._positions = positions
        self._keys = np.flatnonzero(packets.keyframe & packets.shown)

    def shows(self, bound: float) -> bool:
        """Whether a keyframe is presented by the timestamp `bound`."""
        return bool((self.packets.pts[self._keys] <= bound).any())

    def target(self, bound: float, origin: int) -> Target:
        """The packet on screen at the timestamp `bound`. Raises IndexUnreliable."""
        pts = self.packets.pts
        candidates = np.flatnonzero(self.packets.shown & (pts <= bound) & (pts >= origin))
        if not (len(candidates) and self.shows(bound)):
            raise IndexUnreliable
        number = int(candidates[np.argmax(pts[candidates])])
        key = int(self._keys[np.flatnonzero(pts[self._keys] <= pts[number])[-1]]) if self.shows(pts[number]) else -1
        if key < 0:
            raise IndexUnreliable
        start = Keyframe(int(pts[key]), int(self._positions[key]), self.packets.open_gop(key))
        return Target(int(pts[number]), int(self._positions[number]), start)


def place_at(container: InputContainer, stream: VideoStream, offset: int) -> tuple[int, int]:
    """Byte and timestamp of the first packet of `stream` that begins at `offset` or later.

    Raises FFmpegError, and IndexUnreliable where there is none.
    """
    seek_bytes(container, offset)
    for packet in read_packets(container, stream):
        if packet.pos is not None and packet.pos >= offset and packet.pts is not None:
            return packet.pos, packet.pts
    raise IndexUnreliable
