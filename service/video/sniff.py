"""Recognize the container from the first bytes, before FFmpeg sees any of them.

FFmpeg's own probing would happily pick demuxers that open other files (HLS, concat, image sequences); with the family
known beforehand, exactly one demuxer is ever offered the upload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.errors import ContainerNotAllowed, EmptyUpload

HEAD_BYTES = 4096

_TS_SYNC = 0x47
_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))  # plain, Blu-ray with a timecode prefix, with Reed-Solomon parity
_MP4_BOXES = {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx"}
_STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis", b"msf1", b"hevc", b"crx "}


@dataclass(frozen=True)
class Family:
    """A container family and the only FFmpeg demuxer that may read it."""

    name: str
    demuxer: str


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in _MP4_BOXES and not (head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS)


def _is_mpegts(head: bytes) -> bool:
    for size, offset in _TS_LAYOUTS:
        marks = head[offset::size][:5]
        if len(marks) >= 2 and set(marks) == {_TS_SYNC}:
            return True
    return False


_FAMILIES: tuple[tuple[Family, Callable[[bytes], bool]], ...] = (
    (Family("mp4", "mov"), _is_mp4),
    (Family("matroska", "matroska"), lambda head: head.startswith(b"\x1a\x45\xdf\xa3")),
    (Family("avi", "avi"), lambda head: head.startswith(b"RIFF") and head[8:11] == b"AVI"),
    (Family("mpeg", "mpeg"), lambda head: head.startswith(b"\x00\x00\x01\xba")),
    (Family("flv", "flv"), lambda head: head.startswith(b"FLV\x01")),
    (Family("gif", "gif"), lambda head: head.startswith((b"GIF87a", b"GIF89a"))),
    (Family("mpegts", "mpegts"), _is_mpegts),
)

_REFUSED_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (4, b"ftyp", "a HEIF or AVIF picture"),
    (8, b"WAVE", "a WAV audio file"),
    (0, b"ID3", "an MP3 audio file (ID3 tag)"),
    (0, b"fLaC", "a FLAC audio file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"\xff\xf1", "an AAC audio file"),
    (0, b"\xff\xf9", "an AAC audio file"),
    (0, b"\xff\xfb", "an MP3 audio file"),
    (0, b"\xff\xfa", "an MP3 audio file"),
    (0, b"\xff\xf3", "an MP3 audio file"),
    (0, b"\xff\xf2", "an MP3 audio file"),
    (0, b"#!AMR", "an AMR audio file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"\x30\x26\xb2\x75", "an ASF or WMV file"),
    (0, b".RMF", "a RealMedia file"),
    (0, b"\x00\x00\x01\xb3", "a bare MPEG video stream without container"),
    (0, b"\x00\x00\x00\x01", "a bare video stream without container"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
)

_REFUSED_TEXT: tuple[tuple[bytes, str], ...] = (
    (b"#extm3u", "an HLS playlist"),
    (b"ffconcat", "an ffconcat list of other files"),
    (b"[playlist]", "a PLS playlist"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<mpd", "a DASH manifest"),
    (b"<smil", "a SMIL playlist"),
    (b"<asx", "an ASX playlist"),
    (b"<svg", "an SVG picture"),
    (b"<?xml", "an XML document"),
    (b"v=0", "an SDP session description"),
    (b"{", "a JSON document"),
)


def _describe(head: bytes) -> str:
    for offset, magic, name in _REFUSED_MAGIC:
        if head[offset:].startswith(magic):
            return name
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for opening, name in _REFUSED_TEXT:
        if text.startswith(opening):
            return name
    return "an unrecognized format"


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
    for family, recognizes in _FAMILIES:
        if recognizes(head):
            if family.name in allowed:
                return family
            raise ContainerNotAllowed(
                f"The upload is a container of the {family.name} family. Accepted containers: {accepted}.",
                limit=accepted,
                actual=family.name,
            )
    found = _describe(head)
    raise ContainerNotAllowed(f"The upload is {found}. Accepted containers: {accepted}.", limit=accepted, actual=found)
