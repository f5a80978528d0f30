"""What the packets of a stream say about time, learnt without decoding any."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from numpy.typing import NDArray

from service.errors import PacketLimit
from service.video.frame_data import changes_setup
from service.video.refusals import encrypted
from service.video.sei_orientation import MESSAGE_BYTES, UNTURNED, display_orientation
from service.video.source import PACKET_BYTES

# H.264 and HEVC let at most 16 pictures overtake another on their way from file to screen; other codecs let one.
REORDER_DEPTH = 16
_AT_ONCE = 256
_IDR = 5
_NAL_SEARCH_BYTES = 4096


@dataclass(frozen=True)
class Packets:
    """What a stretch of packets, in the order of the file, says about time.

    Attributes:
        pts: int64 [P], presentation timestamp of each packet in ticks.
        dts: int64 [P], decoding timestamp of each packet in ticks; the presentation timestamp where there is none.
        keyframe: bool [P], whether decoding can start at the packet.
        non_idr_keyframe: bool [P], whether it is a keyframe of H.264 that does not reset the decoder (no IDR picture):
            what follows may name pictures from before, as if they were lost.
        shown: bool [P], whether the packet's frame is presented (edit lists hide some, VP8 has hidden references).
        duration: int64 [P], ticks that the packet's frame is presented; 0 where unknown.
        uniform: whether every packet is intact, has its own timestamp and leaves the decoder's setup as it is.
        error: what FFmpeg said where reading broke off; None if it did not.
        turns: places of keyframes in front of which the stream asks for an orientation, and its display matrix, int32
            [9]; empty if none asks, and for H.264 also if the first does not.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    non_idr_keyframe: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    duration: NDArray[np.int64]
    uniform: bool
    error: str | None
    turns: tuple[tuple[int, NDArray[np.int32]], ...] = ()

    @property
    def has_valid_timestamps(self) -> bool:
        """Whether timestamps are unique, and reordered no more than a decoder with few pictures in store can undo."""
        order = np.argsort(self.pts, kind="stable")
        unique = bool(np.all(np.diff(self.pts[order]) > 0))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        moved = np.abs(rank - np.arange(len(order)))
        keys = self.pts[self.keyframe]
        return (
            self.uniform and unique and int(moved.max(initial=0)) <= REORDER_DEPTH and bool(np.all(np.diff(keys) > 0))
        )

    def open_gop(self, number: int) -> bool:
        """Whether keyframe `number` starts a group whose pictures may refer to the group before."""
        return bool(self.non_idr_keyframe[number]) or bool(
            np.any(self.pts[number + 1 : number + 1 + REORDER_DEPTH] < self.pts[number])
        )


@dataclass
class Kept:
    """Packets that were read, for the decoder; none if they take more than `budget` bytes of memory."""

    budget: int
    packets: list[Packet[Any]] = field(default_factory=list)
    _size: int = 0

    def add(self, packets: Sequence[Packet[Any]]) -> None:
        """Keep these too."""
        self._size += sum([packet.size for packet in packets]) + PACKET_BYTES * len(packets)
        if self._size <= self.budget:
            self.packets += packets
        else:
            self.packets.clear()


class _Columns:
    """What `Packets` holds, growing. A column at a time, because this runs for every packet of every upload."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._next_dts = 0
        self._delay: int | None = None
        self.pts, self.dts, self.durations = array("q"), array("q"), array("q")
        self.keyframe, self.non_idr_keyframe, self.shown = bytearray(), bytearray(), bytearray()
        self.uniform = True
        self.turns: list[tuple[int, NDArray[np.int32]]] = []
        self._unturned: int | None = None

    def add(self, packets: Sequence[Packet[Any]]) -> None:
        stamps: list[Any] = [packet.pts for packet in packets]
        durations = [packet.duration or 0 for packet in packets]
        decoded = [packet.dts for packet in packets]
        if None in stamps:
            self.uniform = False
            self._replace(stamps, decoded, durations)
        elif self.uniform:
            self.uniform = not any([packet.is_corrupt for packet in packets])
            if any(map(changes_setup, packets)):
                self.uniform = False
                if any(packet.has_sidedata("encryption_info") for packet in packets):
                    raise encrypted("Common Encryption")
        if self._delay is None and decoded[0] is not None:
            self._delay = stamps[0] - decoded[0]
        self._next_dts = (stamps[-1] if decoded[-1] is None else decoded[-1]) + max(durations[-1], 1)
        # Of VC-1 the flags are wrong, and the first picture counts.
        keyframe = [packet.is_keyframe or self._codec == "vc1" for packet in packets]
        if self._codec == "hevc" or (self._codec == "h264" and (self.turns or not any(self.keyframe))):
            self._note_turns(keyframe, packets)
        self.pts.extend(stamps)
        self.dts.extend([pts if dts is None else dts for pts, dts in zip(stamps, decoded, strict=True)])
        self.durations.extend(durations)
        self.keyframe.extend(keyframe)
        if self._codec == "h264":
            keyed = zip(keyframe, packets, strict=True)
            self.non_idr_keyframe.extend([key and not _is_idr(memoryview(packet)) for key, packet in keyed])
        else:
            self.non_idr_keyframe.extend(bytes(len(packets)))
        if self._codec == "vp8":
            self.shown.extend([not (packet.is_discard or _hidden_vp8(packet)) for packet in packets])
        else:
            self.shown.extend([not packet.is_discard for packet in packets])

    def _note_turns(self, keyframe: Sequence[bool], packets: Sequence[Packet[Any]]) -> None:
        """Note which orientations keyframes ask for.

        Of H.264 only as long as the first of them does: FFmpeg turns no picture but the one that carries the message,
        so that a frame says the same wherever decoding starts. Of HEVC one message turns all frames decoded after it.
        """
        for place in (place for place, key in enumerate(keyframe) if key):
            matrix = display_orientation(bytes(memoryview(packets[place])[:MESSAGE_BYTES]), self._codec)
            if matrix is not None:
                self.turns.append((len(self.keyframe) + place, matrix))
            elif not self.turns and self._codec == "h264":
                return
            elif not self.turns and self._unturned is None:
                self._unturned = len(self.keyframe) + place
        if self.turns and self._unturned is not None:
            self.turns.insert(0, (self._unturned, UNTURNED))
            self._unturned = None

    def _replace(self, stamps: list[Any], decoded: list[Any], durations: Sequence[int]) -> None:
        """Put what follows from the packet before where there are no timestamps.

        A decoding time follows from that of the packet before. A presentation time is the decoding time and the delay
        of the first packet: not that of this very picture, but of one of those around it, so that together they are.
        """
        following = self._next_dts
        for place, duration in enumerate(durations):
            pts, dts = stamps[place], decoded[place]
            if pts is not None and dts is not None and self._delay is None:
                self._delay = pts - dts
            if dts is None:
                decoded[place] = dts = following if pts is None else pts
            if pts is None:
                stamps[place] = dts + (self._delay or 0)
            following = dts + max(duration, 1)


def collect(packets: Iterable[Packet[Any]], codec: str, max_packets: int, kept: Kept | None = None) -> Packets:
    """Note what `packets` say, and put them into `kept`.

    Raises:
        PacketLimit: there are more than `max_packets`.
        EncryptedVideo: some of them are encrypted.
    """
    columns, reading, error = _Columns(codec), iter(packets), None
    while error is None:
        some: list[Packet[Any]] = []
        try:
            # One by one: what was read before an error counts.
            for packet in islice(reading, _AT_ONCE):
                some.append(packet)
        except FFmpegError as caught:
            error = str(caught.strerror)
        if not some:
            break
        if len(columns.pts) + len(some) > max_packets:
            raise PacketLimit(
                f"The file holds more than {max_packets} packets of video.", limit=max_packets, actual=max_packets + 1
            )
        columns.add(some)
        if kept is not None:
            kept.add(some)
    return Packets(
        pts=np.array(columns.pts, dtype=np.int64),
        dts=np.array(columns.dts, dtype=np.int64),
        keyframe=np.array(columns.keyframe, dtype=np.bool_),
        non_idr_keyframe=np.array(columns.non_idr_keyframe, dtype=np.bool_),
        shown=np.array(columns.shown, dtype=np.bool_),
        duration=np.array(columns.durations, dtype=np.int64),
        uniform=columns.uniform,
        error=error,
        turns=tuple(columns.turns),
    )


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
