"""What the header of H.264 in MP4 says of the pictures, for which FFmpeg would decode one.

Opening a file the usual way ends with a search in which FFmpeg decodes the first pictures, above all to learn how far
the stream is out of order. A sequence parameter set (ITU-T H.264, 7.3.2.1.1 and E.1.1) mostly says all that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_SPS = 7
_BASELINE = 66
# Profiles of which the set says how colors are stored (7.3.2.1.1).
_WITH_CHROMA = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_OWN_ASPECT = 255
# Table E-1, from 1.
_ASPECTS = "1:1 12:11 10:11 16:11 40:33 24:11 20:11 32:11 80:33 18:11 15:11 64:33 160:99 4:3 3:2 2:1".split()
_LONGEST_CODE = 32
# With all scaling lists and models of buffers a set has some hundred; reading takes the square of it.
_LONGEST_SET_BYTES = 1024


@dataclass(frozen=True)
class AvcHeader:
    """What a sequence parameter set says.

    Attributes:
        width, height: of a picture in pixels, what is cropped off left out.
        progressive: whether every picture is a whole frame.
        reorder: how many pictures, at most, are coded before one that is shown before them; None where it is not said.
        pixel_aspect: width of a pixel over its height; None where it is not said.
    """

    width: int
    height: int
    progressive: bool
    reorder: int | None
    pixel_aspect: Fraction | None


def read_header(extradata: bytes) -> AvcHeader | None:
    """The header of a stream by its `avcC` box (ISO/IEC 14496-15); None where there is none, or it cannot be read."""
    if len(extradata) < 8 or extradata[0] != 1 or extradata[5] & 0x1F != 1:
        return None  # Which of several sets is meant only the pictures say.
    unit = extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")]
    if not 4 <= len(unit) <= _LONGEST_SET_BYTES or unit[0] & 0x1F != _SPS:
        return None
    try:
        return _parse(_Bits(unit[1:].replace(b"\0\0\3", b"\0\0")))
    except EOFError:
        return None


class _Bits:
    """Bits of a byte string, from its beginning; reading beyond its end raises EOFError."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of so many bits."""
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def skip(self, count: int) -> None:
        """Leave out so many bits."""
        self.take(count)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise EOFError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """A signed Exp-Golomb code (9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def skip_golombs(self, count: int) -> None:
        """Leave out so many codes."""
        for _ in range(count):
            self.golomb()


def _parse(bits: _Bits) -> AvcHeader:
    profile = bits.take(8)
    bits.skip(16)
    bits.golomb()
    chroma = _chroma(bits) if profile in _WITH_CHROMA else 1
    bits.golomb()
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.skip(1)
        bits.skip_golombs(2)
        bits.skip_golombs(bits.golomb())
    bits.golomb()
    bits.skip(1)
    columns, rows = bits.golomb() + 1, bits.golomb() + 1
    progressive = bool(bits.take(1))
    if not progressive:
        bits.skip(1)
        rows *= 2
    bits.skip(1)
    left, right, top, bottom = (bits.golomb() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    unit_x = 1 if chroma in (0, 3) else 2
    unit_y = (2 if chroma == 1 else 1) * (1 if progressive else 2)
    aspect, reorder = _usability(bits) if bits.take(1) else (None, None)
    # With order type 2, and in Baseline, pictures are shown as they come.
    if reorder is None and (order == 2 or profile == _BASELINE):
        reorder = 0
    return AvcHeader(
        width=16 * columns - unit_x * (left + right),
        height=16 * rows - unit_y * (top + bottom),
        progressive=progressive,
        reorder=reorder,
        pixel_aspect=aspect,
    )


def _chroma(bits: _Bits) -> int:
    """Read up to the scaling lists; the chroma format."""
    chroma = bits.golomb()
    if chroma == 3:
        bits.skip(1)
    bits.skip_golombs(2)
    bits.skip(1)
    if bits.take(1):
        for number in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if number < 6 else 64)
    return chroma


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _usability(bits: _Bits) -> tuple[Fraction | None, int | None]:
    """Read the usability information (E.1.1): the aspect of a pixel, and `AvcHeader.reorder`."""
    aspect = None
    if bits.take(1):
        number = bits.take(8)
        if number == _OWN_ASPECT:
            width, height = bits.take(16), bits.take(16)
            aspect = Fraction(width, height) if width and height else None
        elif 0 < number <= len(_ASPECTS):
            aspect = Fraction(_ASPECTS[number - 1].replace(":", "/"))
    if bits.take(1):
        bits.skip(1)
    if bits.take(1):
        bits.skip(4)
        if bits.take(1):
            bits.skip(24)
    if bits.take(1):
        bits.skip_golombs(2)
    if bits.take(1):
        bits.skip(65)
    modeled = 0
    for _ in range(2):
        if bits.take(1):
            _skip_buffer_model(bits)
            modeled += 1
    if modeled:
        bits.skip(1)
    bits.skip(1)
    if not bits.take(1):
        return aspect, None
    bits.skip(1)
    bits.skip_golombs(4)
    reorder = bits.golomb()
    bits.skip_golombs(1)
    return aspect, reorder


def _skip_buffer_model(bits: _Bits) -> None:
    """Leave out the parameters of a hypothetical reference decoder (E.1.2)."""
    buffers = bits.golomb() + 1
    bits.skip(8)
    for _ in range(buffers):
        bits.skip_golombs(2)
        bits.skip(1)
    bits.skip(20)
