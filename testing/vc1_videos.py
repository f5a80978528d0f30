"""Small videos in VC-1, for which there is no free encoder: WMV 9 (simple profile) and the advanced profile.

Written by the rules of SMPTE 421M, and of them only a few. A picture is 4 x 4 macroblocks of one brightness each, as
`testing.videos.numbered` draws it in 64 x 64 pixels; keyframes code all of them, the others those that change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testing.videos import GRID, remux

Profile = Literal["wmv3", "vc1"]
_SIZE = 16 * GRID
_FOURCC = {"wmv3": b"WMV3", "vc1": b"WVC1"}
_SEQUENCE, _ENTRY_POINT, _FRAME = (b"\0\0\1" + bytes([kind]) for kind in (0x0F, 0x0E, 0x0D))

# A quantizer whose step for the mean of a block is 8; 9/8 of that number is the brightness.
_QUANTIZER = (4, 5)
_DARK, _BRIGHT = 27, 195
# What stands for a brightness is counted from black in keyframes of the simple profile, and else from gray.
_GRAY = 114
# Codes, as (value, bits): no coefficient in any block, the mean as predicted, and one that follows in 8 bits.
_FLAT = (1, 1)
_SAME_LUMA, _SAME_CHROMA, _OTHER_LUMA = (1, 1), (0, 2), (0x6078F, 24)
# In the place of a motion vector: the macroblock is coded without one, and has no coefficients.
_INTRA = (0b001101, 6)
# A plane of one bit for each macroblock, which stands at the macroblock itself.
_RAW_PLANE = (0, 5)

Levels = NDArray[np.int64]


class _Bits:
    def __init__(self) -> None:
        self._bits = ""

    def put(self, *fields: tuple[int, int]) -> None:
        """Append numbers, each in so many bits."""
        self._bits += "".join(f"{value:0{bits}b}" for value, bits in fields)

    def data(self, end: str = "1") -> bytes:
        """All of it; the end of a unit is a bit that is set, and what fills its last byte."""
        bits = self._bits + end
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def levels_of(number: int) -> Levels:
    """[GRID, GRID] what stands for the brightness of each macroblock of the picture that shows `number`."""
    bits = [number >> bit & 1 for bit in range(GRID * GRID)]
    return np.where(np.array(bits).reshape(GRID, GRID), _BRIGHT, _DARK)


def _unit(start: bytes, data: bytes) -> bytes:
    """With its start code, and without one inside."""
    inside = bytearray()
    for byte in data:
        if inside[-2:] == b"\0\0" and byte <= 3:
            inside.append(3)
        inside.append(byte)
    return start + bytes(inside)


def _setup(profile: Profile) -> bytes:
    """What the container keeps for the decoder."""
    bits = _Bits()
    if profile == "wmv3":
        # Simple profile, fast motion of chroma, no tools; the last bit is always set.
        bits.put((0, 15), (1, 1), (1, 1), (0, 14), (1, 1))
        return bits.data(end="")
    # Advanced profile, 4:2:0, and half the size less 1.
    bits.put((3, 2), (0, 3), (1, 2), (0, 9), (_SIZE // 2 - 1, 12), (_SIZE // 2 - 1, 12), (0, 8))
    entry = _Bits()
    entry.put((0, 1), (1, 1), (0, 3), (1, 1), (0, 10))
    return b"\0" + _unit(_SEQUENCE, bits.data()) + _unit(_ENTRY_POINT, entry.data())


class _Means:
    """The means of the blocks of one picture: each is told by its difference from a neighbor."""

    def __init__(self, outside: int | None) -> None:
        """`outside` is what counts beyond the edges; None where nothing does."""
        self._known: dict[tuple[int, int], int] = {}
        self._outside = outside

    def put(self, bits: _Bits, row: int, column: int, mean: int) -> None:
        for y, x in ((2 * row + block // 2, 2 * column + block % 2) for block in range(4)):
            difference = mean - self._predicted(y, x)
            self._known[y, x] = mean
            if difference:
                bits.put(_OTHER_LUMA, (abs(difference), 8), (int(difference < 0), 1))
            else:
                bits.put(_SAME_LUMA)
        bits.put(_SAME_CHROMA, _SAME_CHROMA)

    def _predicted(self, y: int, x: int) -> int:
        above, left = (self._known.get(place, self._outside) for place in ((y - 1, x), (y, x - 1)))
        if above is None or left is None:
            return next((mean for mean in (above, left) if mean is not None), 0)
        corner = self._known.get((y - 1, x - 1), self._outside or 0)
        return left if abs(above - corner) <= abs(corner - left) else above


def _keyframe(profile: Profile, levels: Levels) -> bytes:
    bits = _Bits()
    if profile == "wmv3":
        bits.put((0, 2), (0, 1), (0, 7), _QUANTIZER, (0, 1), (0, 3))
    else:
        bits.put((0b110, 3), (0, 1), _QUANTIZER, (0, 1), _RAW_PLANE, (0, 3))
    means = _Means(outside=128 if profile == "wmv3" else None)
    for (row, column), level in np.ndenumerate(levels):
        bits.put(_FLAT, (0, 1))
        means.put(bits, row, column, int(level) - (0 if profile == "wmv3" else _GRAY))
    return bits.data()


def _difference(profile: Profile, before: Levels, levels: Levels) -> bytes:
    """A picture that takes the macroblocks that are as before from there."""
    bits = _Bits()
    bits.put(*(((0, 2), (1, 1)) if profile == "wmv3" else ((0, 1), (0, 1))))
    # One motion vector each, the plane of those that are skipped, and the first of all tables.
    bits.put(_QUANTIZER, (0, 1), (1, 1), _RAW_PLANE, (0, 4), (0, 2))
    means = _Means(outside=None)
    for (row, column), level in np.ndenumerate(levels):
        same = bool(level == before[row, column])
        bits.put((int(same), 1))
        if not same:
            bits.put(_INTRA, (0, 1))
            means.put(bits, row, column, int(level) - _GRAY)
    return bits.data()


def _packets(profile: Profile, frames: int, gop: int) -> Iterator[tuple[bool, bytes]]:
    """Whether it is a keyframe, and its bytes, of each picture."""
    for number in range(frames):
        levels, key = levels_of(number), number % gop == 0
        data = _keyframe(profile, levels) if key else _difference(profile, levels_of(number - 1), levels)
        yield key, data if profile == "wmv3" else _unit(_FRAME, data)


def _chunk(name: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def write_vc1(path: Path, frames: int = 60, *, fps: int = 30, gop: int = 12, profile: Profile = "wmv3") -> Path:
    """Write `frames` pictures of 64 x 64 pixels, of which each shows its number, in a container that FFmpeg knows.

    Picture `gop` n is a keyframe. The suffix chooses the container.
    """
    avi = path if path.suffix == ".avi" else path.with_suffix(".made.avi")
    packets = list(_packets(profile, frames, gop))
    setup, fourcc = _setup(profile), _FOURCC[profile]
    rate = struct.pack("<9I4H", 0, 0, 0, 1, fps, 0, frames, 0, 0, 0, 0, _SIZE, _SIZE)
    picture = struct.pack("<IiiHH4s5I", 40 + len(setup), _SIZE, _SIZE, 1, 24, fourcc, 0, 0, 0, 0, 0)
    stream = _chunk(b"LIST", b"strl", _chunk(b"strh", b"vids", fourcc, rate), _chunk(b"strf", picture, setup))
    header = struct.pack("<14I", 1_000_000 // fps, 0, 0, 0x10, frames, 0, 1, 0, _SIZE, _SIZE, 0, 0, 0, 0)
    pieces, index, at = [], [], 4
    for key, data in packets:
        pieces.append(_chunk(b"00dc", data))
        index.append(struct.pack("<4s3I", b"00dc", 0x10 if key else 0, at, len(data)))
        at += len(pieces[-1])
    body = (
        _chunk(b"LIST", b"hdrl", _chunk(b"avih", header), stream),
        _chunk(b"LIST", b"movi", *pieces),
        _chunk(b"idx1", *index),
    )
    avi.write_bytes(_chunk(b"RIFF", b"AVI ", *body))
    if avi != path:
        remux(avi, path, opaque=True)
        avi.unlink()
    return path
