"""The orientation that H.264 and HEVC themselves ask for: a message before a picture that holds for all that follow.

Of H.264 FFmpeg turns only the picture that carries the message (ITU-T H.264, D.2.27); a clip would be turned in its
first frame. Of HEVC (ITU-T H.265, D.2.17) it turns all that are decoded after it, but none where decoding starts later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_H264_SEI, _FIRST_SLICE, _LAST_SLICE = 6, 1, 5
_HEVC_SEI, _HEVC_SLICES = 39, 32
_DISPLAY_ORIENTATION = 47
_FULL_TURN = 1 << 16
_FIXED_POINT = 1 << 16
MESSAGE_BYTES = 4096
"""Within so many bytes of a packet its messages are looked for."""
UNTURNED = np.array((_FIXED_POINT, 0, 0, 0, _FIXED_POINT, 0, 0, 0, 1 << 30), dtype=np.int32)
"""The display matrix, int32 [9], that changes nothing."""


def display_orientation(packet: bytes, codec: str) -> NDArray[np.int32] | None:
    """The display matrix, int32 [9], of the message in front of the pictures of a packet of `h264` or `hevc`.

    None where there is none. One that cancels the orientation gives the matrix that changes nothing.
    """
    for unit in _units(packet[:MESSAGE_BYTES]):
        messages, is_slice = _of_hevc(unit) if codec == "hevc" else _of_h264(unit)
        if is_slice:
            return None
        if messages and (payload := _payload(messages.replace(b"\0\0\3", b"\0\0"))):
            return _matrix(payload)
    return None


def _of_h264(unit: bytes) -> tuple[bytes, bool]:
    """The messages of a unit, if it holds some, and whether it is part of a picture."""
    kind = unit[0] & 0x1F
    return unit[1:] if kind == _H264_SEI else b"", _FIRST_SLICE <= kind <= _LAST_SLICE


def _of_hevc(unit: bytes) -> tuple[bytes, bool]:
    kind = unit[0] >> 1 & 0x3F
    return unit[2:] if kind == _HEVC_SEI else b"", kind < _HEVC_SLICES


def _units(packet: bytes) -> Sequence[bytes]:
    """The units of a packet, with start codes or with their lengths of four bytes in front of them."""
    if packet.startswith((b"\0\0\0\1", b"\0\0\1")):
        return [part.rstrip(b"\0") for part in packet.split(b"\0\0\1") if part.rstrip(b"\0")]
    found, at = [], 0
    while at + 4 < len(packet):
        size = int.from_bytes(packet[at : at + 4], "big")
        if size:
            found.append(packet[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _payload(messages: bytes) -> bytes:
    """The first message about orientation; empty where there is none."""
    at = 0
    while at + 2 <= len(messages):
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(messages) and messages[at] == 0xFF:
                number += 0xFF
                at += 1
            number += messages[at] if at < len(messages) else 0
            at += 1
            numbers.append(number)
        kind, size = numbers
        if kind == _DISPLAY_ORIENTATION:
            return messages[at : at + size]
        at += size
    return b""


def _matrix(payload: bytes) -> NDArray[np.int32]:
    bits = int.from_bytes(payload[:3].ljust(3, b"\0"), "big")
    cancelled, across, down = (bool(bits >> shift & 1) for shift in (23, 22, 21))
    turned = bits >> 5 & _FULL_TURN - 1
    if cancelled:
        turned, across, down = 0, False, False
    # The message mirrors first and then turns counter-clockwise; the matrix has y pointing down.
    angle = 2 * math.pi * turned / _FULL_TURN
    cosine, sine = round(math.cos(angle) * _FIXED_POINT), round(math.sin(angle) * _FIXED_POINT)
    left, top = (-1 if across else 1), (-1 if down else 1)
    matrix = (left * cosine, -left * sine, 0, top * sine, top * cosine, 0, 0, 0, 1 << 30)
    return np.array(matrix, dtype=np.int32)
