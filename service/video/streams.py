"""Which of the video streams of a container is the video: one rule for all containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from service.errors import InvalidOption, NoVideoStream, StreamLimit, Undecodable
from service.video.sniff import Family
from service.video.truncation import promised

_FLAGGED_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Codings of single pictures, in which covers are kept that no flag marks.
_PICTURE_CODECS = ("mjpeg", "png", "bmp", "tiff", "webp", "gif", "jpeg2000")
_COVER_S = 0.5
# Streams as long as the longest, to which sound and pictures of one recording do not agree any better.
_TOLERANCE_S = 0.5


def choose_stream(
    container: InputContainer, family: Family, max_streams: int, wanted: int | None
) -> tuple[VideoStream, int, int]:
    """The video stream to use, its number among the video streams, and how many there are; covers do not count.

    It is the one of number `wanted`. Without that it is the longest of those that the file marks as default, or of all
    where none is marked; of streams about as long as each other the first.

    Raises:
        NoVideoStream: there is none.
        InvalidOption: there are too few for `wanted`.
        StreamLimit: the container has more than `max_streams` streams.
        Undecodable: it has none at all.
    """
    count = len(container.streams)
    if not count:
        raise Undecodable("The container opens but announces no streams; its header or index is damaged or missing.")
    if count > max_streams:
        raise StreamLimit(
            f"The container holds {count} streams; at most {max_streams} are accepted.", limit=max_streams, actual=count
        )
    every = container.streams.video
    moving = [stream for stream in every if not _is_cover(stream, container, family)]
    if not moving:
        raise _no_video(list(container.streams))
    if wanted is not None and wanted >= len(moving):
        raise InvalidOption(
            f"`stream` must be at most {len(moving) - 1}, not {wanted}: the file has {len(moving)} "
            f"video {'stream' if len(moving) == 1 else 'streams'}, counted from 0.",
            limit=len(moving) - 1,
            actual=wanted,
        )
    chosen = moving[wanted] if wanted is not None else _longest(moving, container, family)
    return chosen, moving.index(chosen), len(moving)


def _longest(moving: Sequence[VideoStream], container: InputContainer, family: Family) -> VideoStream:
    marked = [stream for stream in moving if stream.disposition & Disposition.default] or list(moving)
    if len(marked) == 1:
        return marked[0]
    lengths = [_own_length_s(stream, container, family) or 0.0 for stream in marked]
    return next(stream for stream, length in zip(marked, lengths, strict=True) if length >= max(lengths) - _TOLERANCE_S)


def _own_length_s(stream: VideoStream, container: InputContainer, family: Family) -> float | None:
    promise = promised(container, stream, family)
    return None if promise is None or promise.shared else promise.seconds


def _is_cover(stream: VideoStream, container: InputContainer, family: Family) -> bool:
    if stream.disposition & _FLAGGED_PICTURES:
        return True
    # A file of one stream is what it is; beside others a single picture is their cover.
    if len(container.streams) == 1 or stream.codec_context is None:
        return False
    if stream.codec_context.codec.canonical_name not in _PICTURE_CODECS:
        return False
    length = _own_length_s(stream, container, family)
    return stream.frames == 1 or (length is not None and length < _COVER_S)


def _no_video(streams: Sequence[Any]) -> NoVideoStream:
    kinds = {"cover picture" if stream.type == "video" else stream.type for stream in streams}
    said = ", ".join(sorted(kinds))
    if "cover picture" in kinds:
        return NoVideoStream(
            f"The container holds a cover picture but no video; its streams are: {said}. Send a video file.",
            actual=said,
        )
    return NoVideoStream(
        f"The container holds no video stream; its streams are: {said}. Send a video file.", actual=said
    )
