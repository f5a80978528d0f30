"""Playlists of HLS (RFC 8216), read strictly: what is not understood, and would change what is shown, is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin

from service.errors import SourceLimit, SourceRefused

MAX_BYTES = 1 << 20
MAX_SEGMENTS = 5000
MARK = b"#EXTM3U"
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]*)')
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
# The longest that a segment may be, to a server that has none of its own to say.
_DEFAULT_TARGET_S = 6.0
_LONGEST_TARGET_S = 60.0


@dataclass(frozen=True)
class Segment:
    """A part of the stream: its number, and where it is."""

    number: int
    url: str
    init_url: str | None
    """where its header is, of a fragmented MP4"""


@dataclass(frozen=True)
class MediaPlaylist:
    """Segments, oldest first. `ended` says that no more come."""

    segments: tuple[Segment, ...]
    target_s: float
    ended: bool


@dataclass(frozen=True)
class MasterPlaylist:
    """The same stream in several qualities: the one that takes least."""

    url: str


def parse(text: str, url: str) -> MediaPlaylist | MasterPlaylist:
    """The playlist at `url`. URLs in it are made absolute, and not checked.

    Raises:
        SourceRefused: it is no playlist, or asks for what is not supported.
        SourceLimit: it has too many segments.
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    if not lines or lines[0] != MARK.decode():
        raise SourceRefused("The source is no playlist of HLS: it does not begin with #EXTM3U.")
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _master(lines, url)
    return _media(lines, url)


def _master(lines: list[str], url: str) -> MasterPlaylist:
    found: list[tuple[int, str]] = []
    bandwidth: int | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            said = _attributes(line).get("BANDWIDTH", "")
            bandwidth = int(said) if _NUMBER.fullmatch(said) else 0
        elif line and not line.startswith("#") and bandwidth is not None:
            found.append((bandwidth, urljoin(url, line)))
            bandwidth = None
    if not found:
        raise SourceRefused("The playlist of HLS names no stream.")
    return MasterPlaylist(min(found)[1])


def _media(lines: list[str], url: str) -> MediaPlaylist:
    segments: list[Segment] = []
    first, target_s, ended, init_url, announced = 0, _DEFAULT_TARGET_S, False, None, False
    for line in lines:
        if line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
            first = _number(line)
        elif line.startswith("#EXT-X-TARGETDURATION:"):
            target_s = min(_LONGEST_TARGET_S, max(0.5, _seconds(line)))
        elif line.startswith("#EXT-X-KEY:"):
            method = _attributes(line).get("METHOD", "")
            if method != "NONE":
                raise SourceRefused(
                    f"The segments of the stream are encrypted ({method or 'unknown'}), which is not supported.",
                    actual=method,
                )
        elif line.startswith(("#EXT-X-BYTERANGE:", "#EXT-X-DEFINE:")) or (
            line.startswith("#EXT-X-MAP:") and "BYTERANGE" in _attributes(line)
        ):
            name = line.partition(":")[0].removeprefix("#")
            raise SourceRefused(f"The playlist uses {name}, which is not supported.", actual=name)
        elif line.startswith("#EXT-X-MAP:"):
            init_url = urljoin(url, _attributes(line).get("URI", ""))
        elif line.startswith("#EXTINF:"):
            announced = True
        elif line == "#EXT-X-ENDLIST":
            ended = True
        elif line and not line.startswith("#") and announced:
            announced = False
            segments.append(Segment(len(segments), urljoin(url, line), init_url))
            if len(segments) > MAX_SEGMENTS:
                raise SourceLimit(
                    f"The playlist names more than {MAX_SEGMENTS} segments.", limit=MAX_SEGMENTS, actual=len(segments)
                )
    numbered = (Segment(first + segment.number, segment.url, segment.init_url) for segment in segments)
    return MediaPlaylist(tuple(numbered), target_s, ended)


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def _number(line: str) -> int:
    said = line.partition(":")[2].strip()
    if not _NUMBER.fullmatch(said):
        raise SourceRefused(f"The playlist has no number in {line[:80]!r}.")
    return int(said)


def _seconds(line: str) -> float:
    said = line.partition(":")[2].strip()
    if not _SECONDS.fullmatch(said):
        raise SourceRefused(f"The playlist has no seconds in {line[:80]!r}.")
    return float(said)
