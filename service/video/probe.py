"""Find out what an upload is, and refuse what is not allowed, before any frame is decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from service.errors import CodecNotAllowed, DurationLimit, NoVideoStream, StreamLimit, Undecodable
from service.video.avc_header import AvcHeader, read_header
from service.video.config import VideoLimits
from service.video.packet_index import REORDER_DEPTH, Kept
from service.video.sniff import HEAD_BYTES, Family, sniff
from service.video.source import Openable, open_upload, read_packets
from service.video.timeline import IndexUnreliable, Timeline, read_ends, read_timeline

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Up to here reading every packet costs less than it could save, wherever in the stream the wanted frames are.
_READ_ALL_PACKETS = 4000
# What reading the ends costs beside the packets at the beginning: a seek, and the last group of pictures.
_LAST_PACKETS = 100
# So many packets tell where a stream begins.
_FIRST_PACKETS = 3 * REORDER_DEPTH
# Packets that were read are kept for the decoder, up to here; those of larger files are read again.
_KEPT_BYTES = 16 * 1024 * 1024
_SANE_ASPECT = (Fraction(1, 8), Fraction(8))


@dataclass(frozen=True)
class Probe:
    """What is known of an upload before decoding.

    Attributes:
        family: container family, which names the demuxer.
        stream: index of the video stream that is used.
        codec: FFmpeg's name of the coding format.
        pixel_aspect: width of a pixel over its height.
        timeline: when the frames are presented.
        declared_s: seconds of video that the header promises; None where it does not say.
    """

    family: Family
    stream: int
    codec: str
    pixel_aspect: Fraction
    timeline: Timeline
    declared_s: float | None


def _video_stream(container: InputContainer, max_streams: int) -> VideoStream:
    if not len(container.streams):
        raise Undecodable("The container opens but announces no streams; its header or index is damaged or missing.")
    if len(container.streams) > max_streams:
        count = len(container.streams)
        raise StreamLimit(
            f"The container holds {count} streams; at most {max_streams} are accepted.", limit=max_streams, actual=count
        )
    moving = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    if not moving:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise NoVideoStream(f"The container holds no video stream; its streams are: {kinds}.", actual=kinds)
    best = container.streams.best("video")
    return next((stream for stream in moving if best is not None and stream.index == best.index), moving[0])


def _codec(stream: VideoStream, allowed: tuple[str, ...]) -> str:
    # PyAV leaves the context out where the build has no decoder for the stream.
    context = stream.codec_context
    # The canonical name is that of the format: the decoder of AV1, for one, is called libdav1d.
    codec = "unknown" if context is None else context.codec.canonical_name
    if codec not in allowed:
        accepted = ", ".join(allowed)
        raise CodecNotAllowed(f"The video's codec is {codec}; accepted are {accepted}.", limit=accepted, actual=codec)
    return codec


def _pixel_aspect(aspect: Fraction | None) -> Fraction:
    low, high = _SANE_ASPECT
    return aspect if aspect and low <= aspect <= high else Fraction(1)


def _clock(text: str) -> float | None:
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _declared_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska writers leave the length of a single stream in a tag, as hours:minutes:seconds.
    if tagged := _clock(stream.metadata.get("DURATION", "")):
        return tagged
    return container.duration / 1_000_000 if container.duration else None


@dataclass(frozen=True)
class Video:
    """An open upload and what is known of it; reading its packets goes on wherever probing ended.

    Attributes:
        packets: all packets of the stream, read without an error, or those of `Timeline.head`; empty if they are too
            many to hold.
    """

    path: Openable
    container: InputContainer
    stream: VideoStream
    probe: Probe
    packets: Sequence[Packet[VideoStream]]


def _packets_to_read(stream: VideoStream, family: Family, until_s: float | None) -> int | None:
    """How many packets to read at the beginning of a stream whose index names the others; None to read them all."""
    # The index of a fragmented MP4 grows while it is read, and the number of frames in its header is 0.
    if family.name != "mp4" or not 0 < stream.frames <= len(stream.index_entries):
        return None
    if until_s is not None and stream.average_rate:
        first = math.ceil(until_s * stream.average_rate) + _FIRST_PACKETS
        if 2 * first + _LAST_PACKETS < stream.frames:
            return first
    return _FIRST_PACKETS if stream.frames > _READ_ALL_PACKETS else None


@contextmanager
def open_video(
    path: Openable, limits: VideoLimits, every_frame: bool = False, until_s: float | None = None
) -> Iterator[Video]:
    """Identify the upload at `path` and learn when its frames are presented.

    Of a video with an index only the ends are read if it is long, or if no frame is wanted beyond `until_s` seconds
    near its beginning; unless `every_frame` asks for the time of each frame.

    Raises:
        EmptyUpload, ContainerNotAllowed, CodecNotAllowed, NoVideoStream: it is nothing that is accepted.
        StreamLimit, PixelLimit, PacketLimit, DurationLimit: it is larger than `limits` allow.
        Undecodable: the container is damaged beyond use.
    """
    with path.open("rb") as raw:
        family = sniff(raw.read(HEAD_BYTES), limits.allowed_containers)
    # The quickest way first; the usual one a second time for an index that turns out wrong.
    for fast_open in (True, False, False) if family.name == "mp4" else (False,):
        with open_upload(path, family, limits.max_pixels, fast_open=fast_open) as container:
            try:
                video = _read(fast_open, path, family, container, limits, every_frame, until_s)
            except IndexUnreliable:
                every_frame = True
                continue
            if video is not None:
                yield video
                return


def _read(
    fast_open: bool,
    path: Openable,
    family: Family,
    container: InputContainer,
    limits: VideoLimits,
    every_frame: bool,
    until_s: float | None,
) -> Video | None:
    """What is learnt of the video in a container; None after a `fast_open` whose header does not tell all.

    Raises IndexUnreliable, but not where every packet is read, for `every_frame`.
    """
    stream = _video_stream(container, limits.max_streams)
    header = _usable_sps(container, stream) if fast_open else None
    if fast_open and header is None:
        return None
    codec = _codec(stream, limits.allowed_codecs)
    limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
    first = None if every_frame else _packets_to_read(stream, family, until_s)
    kept = Kept(_KEPT_BYTES)
    if first is None:
        timeline = read_timeline(read_packets(container, stream), stream, codec, limits.max_packets, kept)
    else:
        timeline = read_ends(container, stream, codec, limits.max_packets, first, kept)
    if header is not None and not (header.reorder or _shown_as_coded(timeline)):
        return None
    aspect = stream.sample_aspect_ratio or (None if header is None else header.pixel_aspect)
    return _video(path, family, container, stream, codec, aspect, timeline, kept, limits)


def _usable_sps(container: InputContainer, stream: VideoStream) -> AvcHeader | None:
    """The header of the stream, if it tells all that opening the file the usual way would find out."""
    context = stream.codec_context
    # What `avc3` and fragments say of themselves comes later.
    if len(container.streams.video) > 1 or not stream.frames or context is None or context.codec_tag != "avc1":
        return None
    header = read_header(bytes(context.extradata or b""))
    if header is None or not header.progressive or header.reorder is None:
        return None
    return header if (header.width, header.height) == (context.width, context.height) else None


def _shown_as_coded(timeline: Timeline) -> bool:
    """Whether the packets that were read are in the order of presentation."""
    packets = timeline.head if timeline.packets is None else timeline.packets
    return packets is not None and bool((np.diff(packets.pts) > 0).all())


def _video(
    path: Openable,
    family: Family,
    container: InputContainer,
    stream: VideoStream,
    codec: str,
    aspect: Fraction | None,
    timeline: Timeline,
    kept: Kept,
    limits: VideoLimits,
) -> Video:
    if timeline.duration_s > limits.max_duration_s:
        raise DurationLimit(
            f"The video lasts {timeline.duration_s:.1f} s; at most {limits.max_duration_s:g} s are accepted.",
            limit=limits.max_duration_s,
            actual=round(timeline.duration_s, 3),
        )
    probe = Probe(
        family=family,
        stream=stream.index,
        codec=codec,
        pixel_aspect=_pixel_aspect(aspect),
        timeline=timeline,
        declared_s=_declared_s(container, stream),
    )
    return Video(path, container, stream, probe, () if timeline.demux_error else kept.packets)
