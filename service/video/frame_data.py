"""What frames and packets carry beside pictures, read so that kinds newer than PyAV's tables do no harm.

PyAV names each kind of side data, and raises for one that the FFmpeg inside it knows and its table does not: EXIF in
the pictures of cameras, for one. Those kinds mean nothing here, and the others must be readable beside them.
"""

from __future__ import annotations

from typing import Any

from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame


def _unnamed(cls: Any, number: object) -> Any:
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{number}", number
    return member


# An enumeration asks this for numbers that it does not know, instead of raising at once.
Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


def display_matrix(frame: VideoFrame) -> bytes | None:
    """The frame's display matrix, 36 bytes; None where it has none.

    Raises:
        ValueError, LookupError, TypeError: its side data cannot be read.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(matrix)  # type: ignore[call-overload]


def changes_setup(packet: Packet[Any]) -> bool:
    """Whether the packet carries parameters, which a decoder that skips it would miss, or a key; True if unknown."""
    # A loop, because it runs for every packet and a generator costs twice as much.
    try:
        for data in packet.iter_sidedata():
            if data.data_type in ("new_extradata", "param_change", "encryption_info"):
                return True
    except (ValueError, LookupError):
        return True
    return False


def codec_tag(context: Any) -> str:
    """The four characters by which the container names the codec; bytes that are no ASCII are replaced."""
    try:
        return str(context.codec_tag)
    except UnicodeDecodeError as error:
        return error.object.decode("ascii", errors="replace")
