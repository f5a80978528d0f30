"""Where the packets of a plan come from: from memory if the file was small enough to keep them, else from the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from service.video.frame_data import changes_setup
from service.video.segments import Keyframe
from service.video.source import read_packets

# Nearer keyframes are reached by reading on.
_SEEK_PACKETS = 32


class PlanUnsafe(Exception):
    """Only decoding everything is sure to give the right frames."""


class PacketSource(Protocol):
    """Gives the packets of one segment after the other."""

    def jump(self, key: Keyframe | None, done: int) -> Packet[VideoStream]:
        """The packet of `key`, of the stream's first packet for None.

        Args:
            key: where to go.
            done: place of the last packet of the segment before; -1 at the first segment.

        Raises:
            PlanUnsafe: it is not there.
        """

    def next(self) -> Packet[VideoStream]:
        """The packet after the last one.

        Raises:
            PlanUnsafe: there is none.
        """


class KeptPackets:
    """All packets of a stream, in memory."""

    def __init__(self, packets: Sequence[Packet[VideoStream]]) -> None:
        self._packets = packets
        self._place = -1

    def jump(self, key: Keyframe | None, done: int) -> Packet[VideoStream]:
        if key is None and done >= 0:
            raise PlanUnsafe("there is no keyframe to start from")
        self._place = -1 if key is None else key.order - 1
        return self.next()

    def next(self) -> Packet[VideoStream]:
        self._place += 1
        if self._place >= len(self._packets):
            raise PlanUnsafe("the packets end too early")
        return self._packets[self._place]


class FilePackets:
    """Packets of a stream as they are read from its file, by seeking where the container's seeks can be trusted."""

    def __init__(self, container: InputContainer, stream: VideoStream, seek: Callable[[Keyframe], None] | None) -> None:
        """`seek` lets the container go on at a keyframe or before it; None where it cannot."""
        self._container = container
        self._stream = stream
        self._seek = seek
        self._packets = read_packets(container, stream)

    def jump(self, key: Keyframe | None, done: int) -> Packet[VideoStream]:
        if key is None:
            if done >= 0 or self._seek is not None:
                raise PlanUnsafe("there is no keyframe to start from")
            return self.next()
        if self._seek is not None and (done < 0 or key.order > done + _SEEK_PACKETS):
            self._seek(key)
            self._packets = read_packets(self._container, self._stream)
        while (packet := self.next()).pts != key.pts:
            if changes_setup(packet) or (packet.is_keyframe and packet.pts is not None and packet.pts > key.pts):
                raise PlanUnsafe("the keyframe is not where the index says")
        if not packet.is_keyframe:
            raise PlanUnsafe("the keyframe is none")
        return packet

    def next(self) -> Packet[VideoStream]:
        packet = next(self._packets, None)
        if packet is None:
            raise PlanUnsafe("the packets end too early")
        return packet
