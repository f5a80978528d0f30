"""What the boxes of an MP4 say that FFmpeg does not repeat; read only to explain a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

# A hostile file may hold as many boxes as it likes.
_MOST_BOXES = 10_000
_MOST_BYTES = 1 << 16
_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
_LARGE, _TO_THE_END = 1, 0
_HANDLER_AT = 8
_ENTRY_AT = 8
# Sample entries of encrypted video: Common Encryption (ISO/IEC 23001-7) and FairPlay.
_ENCRYPTED = ("encv", "drmi")


@dataclass(frozen=True)
class Track:
    """What is said of a track.

    Attributes:
        handler: kind of the track, `vide` for video.
        entry: the four characters that name the coding; empty where there are none.
        hidden: whether its edit list presents nothing of it.
        matrix: the 36 bytes of its display matrix; empty where there is none.
    """

    handler: str
    entry: str
    hidden: bool
    matrix: bytes

    @property
    def encrypted(self) -> bool:
        """Whether the coding is that of encrypted video."""
        return self.entry in _ENCRYPTED


def video_tracks(file: IO[bytes]) -> list[Track]:
    """The video tracks of the file's first header; none where it cannot be read."""
    end = file.seek(0, 2)
    tracks: list[dict[bytes, bytes]] = []
    for kind, start, stop in _boxes(file, 0, end):
        if kind == b"trak":
            tracks.append({})
        elif tracks and kind not in tracks[-1]:
            file.seek(start)
            tracks[-1][kind] = file.read(min(stop - start, _MOST_BYTES))
    return [track for track in map(_track, tracks) if track.handler == "vide"]


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte of the content and end of each box, those inside `_NESTED` ones too."""
    ends = [end]
    for _ in range(_MOST_BOXES):
        while ends and start + 8 > ends[-1]:
            start = ends.pop()
        if not ends:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == _LARGE:
            size, content = int.from_bytes(head[8:16], "big"), start + 16
        stop = ends[-1] if size == _TO_THE_END else min(start + size, ends[-1])
        if stop < content:
            return
        yield kind, content, stop
        if kind in _NESTED:
            ends.append(stop)
            start = content
        else:
            start = stop


def _track(boxes: dict[bytes, bytes]) -> Track:
    entry = boxes.get(b"stsd", b"")[_ENTRY_AT + 4 : _ENTRY_AT + 8]
    header = boxes.get(b"tkhd", b"")
    # Before the matrix come times, which are of twice the size in version 1.
    at = (48 if header[:1] == b"\1" else 36) + 4
    return Track(
        handler=boxes.get(b"hdlr", b"")[_HANDLER_AT : _HANDLER_AT + 4].decode("latin-1"),
        entry=entry.decode("latin-1"),
        hidden=_hides_all(boxes.get(b"elst", b"")),
        matrix=header[at : at + 36],
    )


def _hides_all(edits: bytes) -> bool:
    """Whether a list of edits has some, and each shows nothing: it lasts no time, or shows an empty screen."""
    wide = edits[:1] == b"\1"
    size, width = (20, 8) if wide else (12, 4)
    entries = [edits[at : at + size] for at in range(8, len(edits) - size + 1, size)]
    shown = [
        int.from_bytes(entry[:width], "big") > 0 and int.from_bytes(entry[width : 2 * width], "big", signed=True) >= 0
        for entry in entries
    ]
    return bool(entries) and not any(shown)
