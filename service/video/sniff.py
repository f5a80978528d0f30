"""Recognize the container from the first bytes, before FFmpeg sees any of them.

FFmpeg's own probing would happily pick demuxers that open other files (HLS, concat, image sequences); with the family
known beforehand, exactly one demuxer is ever offered the upload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.errors import ContainerNotAllowed, EmptyUpload
from service.video.advice import CONVERT
from service.video.elementary import is_h264, is_hevc
from service.video.foreign import UNRECOGNIZED, describe

HEAD_BYTES = 1 << 14
# What is refused at first is looked at again, with so much of it: a camera's picture is as large.
LONG_HEAD_BYTES = 1 << 22

_TS_SYNC = 0x47
_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))  # plain, Blu-ray with a timecode prefix, with Reed-Solomon parity
# Away from the first byte a pattern has to hold this often.
_TS_MARKS = 8
_MP4_BOXES = {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx"}
# Boxes that may precede those, as in segments of a stream and in old QuickTime files; but so may text.
_EARLY_BOXES = {b"uuid", b"emsg", b"prft", b"pdin", b"meta", b"udta", b"junk", b"PICT", b"ssix", b"mfra"}
_LARGEST_EARLY_BOX = 1 << 24
_STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis", b"msf1", b"hevc", b"crx "}
_PACK = b"\x00\x00\x01\xba"
# A header of a recorder, or the rest of a sector of a disc that was cut.
_PACK_WITHIN = 4096
_MXF_PARTITION = b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"


@dataclass(frozen=True)
class Family:
    """A container family and the only FFmpeg demuxer that may read it."""

    name: str
    demuxer: str


def _is_mp4(head: bytes) -> bool:
    if head[4:8] in _EARLY_BOXES:
        size = int.from_bytes(head[:4], "big")
        following = head[size + 4 : size + 8]
        known = not following or following in _MP4_BOXES | _EARLY_BOXES
        return 8 <= size <= _LARGEST_EARLY_BOX and known
    return head[4:8] in _MP4_BOXES and not (head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS)


def _is_mpegts(head: bytes) -> bool:
    for size, offset in _TS_LAYOUTS:
        marks = head[offset::size][:5]
        if len(marks) >= 2 and set(marks) == {_TS_SYNC}:
            return True
    return False


def _is_cut_mpegts(head: bytes) -> bool:
    return any(
        set(head[offset::size][:_TS_MARKS]) == {_TS_SYNC}
        for size, _ in _TS_LAYOUTS
        for offset in range(size)
        if len(head) >= offset + _TS_MARKS * size
    )


def _is_late_mpeg(head: bytes) -> bool:
    """Whether a pack of MPEG-1 or MPEG-2 begins after something else."""
    at = head[:_PACK_WITHIN].find(_PACK)
    if at < 0 or len(head) < at + 14:
        return False
    mark = head[at + 4]
    if mark & 0xF0 == 0x20:
        return head[at + 12 : at + 15] == b"\0\0\1"
    stuffing = head[at + 13] & 7
    return mark & 0xC4 == 0x44 and head[at + 14 + stuffing : at + 17 + stuffing] == b"\0\0\1"


# In this order: what is told by less of the file comes after what is told by more.
_FAMILIES: tuple[tuple[Family, Callable[[bytes], bool]], ...] = (
    (Family("mp4", "mov"), _is_mp4),
    (Family("matroska", "matroska"), lambda head: head.startswith(b"\x1a\x45\xdf\xa3")),
    (Family("avi", "avi"), lambda head: head.startswith(b"RIFF") and head[8:11] == b"AVI"),
    (Family("mpeg", "mpeg"), lambda head: head.startswith(_PACK)),
    (Family("flv", "flv"), lambda head: head.startswith(b"FLV\x01")),
    (Family("gif", "gif"), lambda head: head.startswith((b"GIF87a", b"GIF89a"))),
    (Family("asf", "asf"), lambda head: head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    (Family("mxf", "mxf"), lambda head: head.startswith(_MXF_PARTITION)),
    (Family("mpegts", "mpegts"), _is_mpegts),
    (Family("h264", "h264"), is_h264),
    (Family("hevc", "hevc"), is_hevc),
    (Family("mpegts", "mpegts"), _is_cut_mpegts),
    (Family("mpeg", "mpeg"), lambda head: describe(head)[0] == UNRECOGNIZED and _is_late_mpeg(head)),
)


def sniff(head: bytes, allowed: tuple[str, ...]) -> Family:
    """The container family of an upload.

    Args:
        head: the first bytes of the upload, at most `HEAD_BYTES` of them are needed.
        allowed: names of the families that are accepted.

    Raises:
        EmptyUpload: there are no bytes.
        ContainerNotAllowed: the bytes are of no family, or of one that is not in `allowed`.
    """
    if not head:
        raise EmptyUpload("The upload is empty: it has 0 bytes.", limit=1, actual=0)
    accepted = ", ".join(allowed)
    family = next((family for family, recognizes in _FAMILIES if recognizes(head)), None)
    if family is None:
        found, advice = describe(head)
        said = f"The upload is {found}."
    elif family.name in allowed:
        return family
    else:
        found, advice = family.name, CONVERT
        said = f"The upload is a container of the {found} family."
    raise ContainerNotAllowed(f"{said} Accepted containers: {accepted}. {advice}.", limit=accepted, actual=found)
