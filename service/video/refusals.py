"""Why a video is refused, where the container says more of it than FFmpeg does: encryption, codings, hidden frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import CodecNotAllowed, EncryptedVideo, NoVideoStream, Undecodable, VideoError
from service.video.advice import CONVERT
from service.video.mp4_boxes import Track, video_tracks
from service.video.sniff import Family
from service.video.source import Openable

_EARLY_BYTES = 1 << 20
_TS_BYTES, _TS_SYNC, _TS_SCRAMBLED = 188, 0x47, 0xC0
# Content encryption objects, and the extended ones, of the specification of ASF.
_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


@contextmanager
def explained(path: Openable, family: Family) -> Iterator[None]:
    """Raise a more telling error in the place of one that FFmpeg's words led to, where the file gives the cause."""
    try:
        yield
    except (CodecNotAllowed, NoVideoStream, Undecodable) as error:
        cause = _cause(path, family, error)
        if cause is None:
            raise
        raise cause from error


def encrypted(how: str) -> EncryptedVideo:
    """The refusal of a video that is encrypted in the way that `how` names."""
    return EncryptedVideo(f"The video is encrypted ({how}). Send it without its protection (DRM).", actual=how)


def _cause(path: Openable, family: Family, error: VideoError) -> VideoError | None:
    with path.open("rb") as file:
        if family.name == "mp4":
            return _of_tracks(video_tracks(file), error)
        head = file.read(_EARLY_BYTES)
    if family.name == "asf" and any(mark in head for mark in _ASF_ENCRYPTION):
        return encrypted("Windows Media DRM")
    if family.name == "mpegts" and _is_scrambled(head):
        return encrypted("a scrambled transport stream")
    return None


def _of_tracks(tracks: list[Track], error: VideoError) -> VideoError | None:
    for track in tracks:
        if track.encrypted:
            return encrypted(f"sample entry {track.entry}")
    if not tracks:
        return None
    if isinstance(error, Undecodable) and all(track.hidden for track in tracks):
        return Undecodable(
            "The edit list of the file presents none of its frames. Remove it: "
            "`ffmpeg -ignore_editlist 1 -i INPUT -c copy OUTPUT.mp4`.",
            actual="edit list",
        )
    entry = "".join(char if char.isprintable() else "?" for char in tracks[0].entry)
    if isinstance(error, CodecNotAllowed) and error.actual == "unknown" and entry:
        return CodecNotAllowed(
            f"The video's coding, sample entry `{entry}`, is one that cannot be decoded here. Accepted codecs: "
            f"{error.limit}. Export it again from the program that made it, as H.264.",
            limit=error.limit,
            actual=entry,
        )
    return None


def _is_scrambled(head: bytes) -> bool:
    """Whether most packets of a transport stream that carry something say that it is scrambled."""
    start = head.find(bytes([_TS_SYNC]))
    flags = [head[at + 3] for at in range(max(start, 0), len(head) - _TS_BYTES, _TS_BYTES) if head[at] == _TS_SYNC]
    return 2 * sum(bool(flag & _TS_SCRAMBLED) for flag in flags) > len(flags) > 0


def codec_refused(codec: str, allowed: tuple[str, ...]) -> CodecNotAllowed:
    """The refusal of a codec that is not on the list."""
    accepted = ", ".join(allowed)
    return CodecNotAllowed(
        f"The video's codec is {codec}. Accepted codecs: {accepted}. {CONVERT}.", limit=accepted, actual=codec
    )
