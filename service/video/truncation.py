"""Whether a file holds less video than its header promises: times of one origin are compared."""

from __future__ import annotations

from dataclasses import dataclass

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from service.video.config import VideoLimits
from service.video.sniff import Family
from service.video.source import Openable, open_upload
from service.video.timeline import Timeline

# Families whose tracks say how long each of them is.
_OWN_LENGTH = ("mp4", "avi", "mxf")
# Families whose header says when the last of all streams ends.
_COMMON_LENGTH = ("matroska", "flv", "asf")
# Of these the length counts from time zero, however late the first frame comes; of others from that frame.
_FROM_ZERO = ("avi", *_COMMON_LENGTH)
# A header that rounds, or a last frame without a length, is no truncation.
_SHARE = 0.95
_TOLERANCE_S = 0.5


@dataclass(frozen=True)
class Promise:
    """What a header says of the length of the video.

    Attributes:
        seconds: that length.
        shared: whether it is that of all streams, so that another one than the video may be as long.
    """

    seconds: float
    shared: bool


def promised(container: InputContainer, stream: VideoStream, family: Family) -> Promise | None:
    """What the header says of the length of `stream`; None where no header says anything, but FFmpeg guesses."""
    if family.name in _OWN_LENGTH and stream.duration and stream.time_base:
        return Promise(float(stream.duration * stream.time_base), shared=False)
    # Matroska writers leave the length of a single stream in a tag, as hours:minutes:seconds.
    if family.name == "matroska" and (tagged := _clock(stream.metadata.get("DURATION", ""))):
        return Promise(tagged, shared=False)
    if family.name in _COMMON_LENGTH and container.duration:
        others = [other for other in container.streams if other.type in ("audio", "video") and other is not stream]
        return Promise(container.duration / 1_000_000, shared=len(others) > 0)
    return None


def _clock(text: str) -> float | None:
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def missing(
    path: Openable, family: Family, promise: Promise | None, timeline: Timeline, limits: VideoLimits
) -> tuple[float, float] | None:
    """Seconds that were promised and seconds that are there, if that is less; None if nothing is missing."""
    if promise is None:
        return None
    held = timeline.duration_s
    if family.name in _FROM_ZERO:
        held = max(held, float(timeline.end * timeline.time_base))
    if _as_promised(held, promise.seconds):
        return None
    if promise.shared:
        held = max(held, _end_of_all(path, family, limits))
    return None if _as_promised(held, promise.seconds) else (promise.seconds, held)


def _as_promised(held: float, seconds: float) -> bool:
    return held >= seconds * _SHARE or seconds - held <= _TOLERANCE_S


def _end_of_all(path: Openable, family: Family, limits: VideoLimits) -> float:
    """Seconds from time zero to the last packet of any stream."""
    end = 0.0
    with open_upload(path, family, limits.max_pixels) as container:
        try:
            for number, packet in enumerate(container.demux()):
                if packet.pts is not None and packet.size:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if number > limits.max_packets:
                    break
        except (FFmpegError, IndexError):
            # As far as it can be read; and PyAV stumbles over streams that only appeared along the way.
            pass
    return end
