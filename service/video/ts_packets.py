"""Access units as an MPEG transport stream (ISO/IEC 13818-1): one program with one video."""

from __future__ import annotations

import struct

from service.video.rtp_payload import AccessUnit

PACKET_BYTES = 188
_TICKS = 1 << 33
_PAT_PID, _PMT_PID, _VIDEO_PID = 0, 0x1000, 0x100
_STREAM_TYPES = {"h264": 0x1B, "hevc": 0x24}
_PROGRAM = 1
# How far the clock of the program is behind the picture that comes.
_AHEAD_TICKS = 63_000
_MOST_PES_LENGTH = (1 << 16) - 1


class TransportStream:
    """Writes a transport stream. Each picture is one PES packet, which says when it is shown."""

    def __init__(self, codec: str) -> None:
        """`codec` is h264 or hevc."""
        video = struct.pack("!BHH", _STREAM_TYPES[codec], 0xE000 | _VIDEO_PID, 0xF000)
        self._tables = [
            (_PAT_PID, _section(0x00, _PROGRAM, struct.pack("!HH", _PROGRAM, 0xE000 | _PMT_PID))),
            (_PMT_PID, _section(0x02, _PROGRAM, struct.pack("!HH", 0xE000 | _VIDEO_PID, 0xF000) + video)),
        ]
        self._counters = {_PAT_PID: 0, _PMT_PID: 0, _VIDEO_PID: 0}
        self._begun = False

    def write(self, unit: AccessUnit) -> bytes:
        """The packets of a picture; before the first one, and before keyframes, with what the program is made of."""
        packets = []
        if unit.keyframe or not self._begun:
            packets = [self._packet(pid, b"", b"\0" + section) for pid, section in self._tables]
        self._begun = True
        return b"".join([*packets, *self._video(unit)])

    def _video(self, unit: AccessUnit) -> list[bytes]:
        shown = unit.ticks % _TICKS
        length = len(unit.data) + 8
        pes = b"".join(
            (
                struct.pack("!IHBBB", 0x1E0, length if length <= _MOST_PES_LENGTH else 0, 0x84, 0x80, 5),
                _pts(shown),
                unit.data,
            )
        )
        clock = (shown - _AHEAD_TICKS) % _TICKS
        # A discontinuity is for a reader to find: of what the sender lost nothing is known here.
        adaptation = struct.pack("!BIH", 0x50 if unit.keyframe else 0x10, clock >> 1, (clock & 1) << 15 | 0x7E00)
        room = PACKET_BYTES - 4 - 1 - len(adaptation)
        packets, at = [self._packet(_VIDEO_PID, adaptation, pes[:room], begins=True)], room
        while at < len(pes):
            packets.append(self._packet(_VIDEO_PID, b"", pes[at : at + PACKET_BYTES - 4], begins=False))
            at += PACKET_BYTES - 4
        return packets

    def _packet(self, pid: int, adaptation: bytes, payload: bytes, *, begins: bool = True) -> bytes:
        """One packet; an adaptation field fills up what `payload` leaves free."""
        counter = self._counters[pid]
        self._counters[pid] = (counter + 1) & 0x0F
        left = PACKET_BYTES - 4 - len(payload)
        head = struct.pack("!BHB", 0x47, begins << 14 | pid, (0x30 if left else 0x10) | counter)
        if not left:
            return head + payload
        field = adaptation or (b"\0" if left > 1 else b"")
        return head + bytes([left - 1]) + field.ljust(left - 1, b"\xff") + payload


def _pts(ticks: int) -> bytes:
    return struct.pack("!BHH", 0x21 | ticks >> 29 & 0x0E, (ticks >> 14 & 0xFFFE) | 1, (ticks << 1 & 0xFFFE) | 1)


def _section(table: int, number: int, body: bytes) -> bytes:
    data = struct.pack("!BHHBBB", table, 0xB000 | len(body) + 9, number, 0xC1, 0, 0) + body
    return data + struct.pack("!I", _crc(data))


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
