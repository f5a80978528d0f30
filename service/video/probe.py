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
from av.video.stream import VideoStream

from service.errors import ContainerNotAllowed, DurationLimit
from service.video.avc_header import AvcHeader, read_header
from service.video.config import VideoLimits
from service.video.frame_data import codec_tag
from service.video.mp4_boxes import video_tracks
from service.video.orientation import Orientation, orientation_of
from service.video.outer_packets import FAMILIES, read_outer_packets
from service.video.packet_index import REORDER_DEPTH, Kept
from service.video.refusals import codec_refused, explained
from service.video.sniff import HEAD_BYTES, LONG_HEAD_BYTES, Family, sniff
from service.video.source import Openable, open_upload, read_packets
from service.video.streams import choose_stream
from service.video.supply import SuppliedFile
from service.video.timeline import IndexUnreliable, Timeline, read_ends, read_timeline
from service.video.truncation import Promise, promised

# Up to here reading every packet costs less than it could save, wherever in the stream the wanted frames are.
_READ_ALL_PACKETS = 4000
# What reading the ends costs beside the packets at the beginning: a seek, and the last group of pictures.
_LAST_PACKETS = 100
# So many packets tell where a stream begins.
_FIRST_PACKETS = 3 * REORDER_DEPTH
# Packets that were read are kept for the decoder, up to here; those of larger files are read again.
_KEPT_BYTES = 16 * 1024 * 1024
# To see all packets of a source means to fetch it; smaller ones are.
_FETCHED_BYTES = 16 * 1024 * 1024
_SANE_ASPECT = (Fraction(1, 8), Fraction(8))


@dataclass(frozen=True)
class Probe:
    """What is known of an upload before decoding.

    Attributes:
        family: container family, which names the demuxer.
        stream: index of the video stream that is used, among all streams.
        number: its number among the video streams.
        streams: how many video streams there are, covers left out.
        codec: FFmpeg's name of the coding format.
        pixel_aspect: width of a pixel over its height.
        timeline: when the frames are presented.
        orientations: from which timestamps on which orientation holds for all frames; empty where each says its own.
        promise: what the header says of the length of the video; None where it does not say.
    """

    family: Family
    stream: int
    number: int
    streams: int
    codec: str
    pixel_aspect: Fraction
    timeline: Timeline
    orientations: tuple[tuple[int, Orientation], ...]
    promise: Promise | None


def codec_of(stream: VideoStream, allowed: tuple[str, ...]) -> str:
    """FFmpeg's name of the coding format of a stream. Raises CodecNotAllowed."""
    # PyAV leaves the context out where the build has no decoder for the stream.
    context = stream.codec_context
    # The canonical name is that of the format: the decoder of AV1, for one, is called libdav1d.
    codec = "unknown" if context is None else context.codec.canonical_name
    if codec not in allowed:
        raise codec_refused(codec, allowed)
    return codec


def sane_aspect(aspect: Fraction | None) -> Fraction:
    """The aspect of a pixel that a container names, or 1 where no display would show it so."""
    low, high = _SANE_ASPECT
    return aspect if aspect and low <= aspect <= high else Fraction(1)


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
    path: Openable,
    limits: VideoLimits,
    every_frame: bool = False,
    until_s: float | None = None,
    wanted: int | None = None,
) -> Iterator[Video]:
    """Identify the upload at `path` and learn when its frames are presented.

    Of a video with an index only the ends are read if it is long, or if no frame is wanted beyond `until_s` seconds
    near its beginning; unless `every_frame` asks for the time of each frame. `wanted` chooses a video stream by number.

    Raises:
        EmptyUpload, ContainerNotAllowed, CodecNotAllowed, NoVideoStream: it is nothing that is accepted.
        EncryptedVideo: it is encrypted.
        InvalidOption: it has no video stream of the number `wanted`.
        StreamLimit, PixelLimit, PacketLimit, DurationLimit: it is larger than `limits` allow.
        Undecodable: the container is damaged beyond use.
    """
    family = _family(path, limits.allowed_containers)
    with explained(path, family):
        # The quickest way first; the usual one a second time for an index that turns out wrong.
        for fast_open in (True, False, False) if family.name == "mp4" else (False, False):
            with open_upload(path, family, limits.max_pixels, fast_open=fast_open) as container:
                try:
                    video = _read(fast_open, path, family, container, limits, every_frame, until_s, wanted)
                except IndexUnreliable:
                    every_frame = True
                    continue
                if video is not None:
                    yield video
                    return


def _family(path: Openable, allowed: tuple[str, ...]) -> Family:
    with path.open("rb") as raw:
        head = raw.read(HEAD_BYTES)
        try:
            return sniff(head, allowed)
        except ContainerNotAllowed:
            return sniff(head + raw.read(LONG_HEAD_BYTES - HEAD_BYTES), allowed)


def _read(
    fast_open: bool,
    path: Openable,
    family: Family,
    container: InputContainer,
    limits: VideoLimits,
    every_frame: bool,
    until_s: float | None,
    wanted: int | None,
) -> Video | None:
    """What is learnt of the video in a container; None after a `fast_open` whose header does not tell all.

    Raises IndexUnreliable, but not where every packet is read, for `every_frame`.
    """
    stream, number, streams = choose_stream(container, family, limits.max_streams, wanted)
    header = _usable_sps(container, stream) if fast_open else None
    if fast_open and header is None:
        return None
    codec = codec_of(stream, limits.allowed_codecs)
    limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
    first = None if every_frame else _packets_to_read(stream, family, until_s)
    kept = Kept(_KEPT_BYTES)
    if not every_frame and family.name in FAMILIES and isinstance(path, SuppliedFile) and path.size > _FETCHED_BYTES:
        timeline = read_outer_packets(container, stream, codec, family, path.size, limits.max_packets)
        if path.complete:
            # Without cues FFmpeg has read all of it, and all packets say more than the outer ones.
            raise IndexUnreliable
    elif first is None:
        timeline = read_timeline(read_packets(container, stream), stream, codec, family, limits.max_packets, kept)
    else:
        timeline = read_ends(container, stream, codec, family, limits.max_packets, first, kept)
    if header is not None and not (header.reorder or _shown_as_coded(timeline)):
        return None
    _check_duration(timeline.duration_s, limits)
    aspect = stream.sample_aspect_ratio or (None if header is None else header.pixel_aspect)
    probe = Probe(
        family=family,
        stream=stream.index,
        number=number,
        streams=streams,
        codec=codec,
        pixel_aspect=sane_aspect(aspect),
        timeline=timeline,
        orientations=_orientations(path, family, stream, container, timeline),
        promise=promised(container, stream, family),
    )
    return Video(path, container, stream, probe, () if timeline.demux_error else kept.packets)


def _usable_sps(container: InputContainer, stream: VideoStream) -> AvcHeader | None:
    """The header of the stream, if it tells all that opening the file the usual way would find out."""
    context = stream.codec_context
    # What `avc3` and fragments say of themselves comes later.
    if len(container.streams.video) > 1 or not stream.frames or context is None or codec_tag(context) != "avc1":
        return None
    header = read_header(bytes(context.extradata or b""))
    if header is None or not header.progressive or header.reorder is None:
        return None
    return header if (header.width, header.height) == (context.width, context.height) else None


def _shown_as_coded(timeline: Timeline) -> bool:
    """Whether the packets that were read are in the order of presentation."""
    packets = timeline.head if timeline.packets is None else timeline.packets
    return packets is not None and bool((np.diff(packets.pts) > 0).all())


def _orientations(
    path: Openable, family: Family, stream: VideoStream, container: InputContainer, timeline: Timeline
) -> tuple[tuple[int, Orientation], ...]:
    """What the stream itself asks for, which FFmpeg lets hold for one picture; the container has the last word."""
    if not timeline.turns:
        return ()
    if family.name == "mp4":
        with path.open("rb") as file:
            tracks = video_tracks(file)
        place = [other.index for other in container.streams.video].index(stream.index)
        matrix = np.frombuffer(tracks[place].matrix, ">i4") if place < len(tracks) else np.empty(0)
        if len(matrix) == 9 and orientation_of(matrix.astype(np.int32)) != Orientation():
            return ((0, orientation_of(matrix.astype(np.int32))),)
    every = [(pts, orientation_of(matrix)) for pts, matrix in timeline.turns]
    return tuple(
        turn for before, turn in zip([None, *every], every, strict=False) if not before or before[1] != turn[1]
    )


def _check_duration(duration_s: float, limits: VideoLimits) -> None:
    if duration_s > limits.max_duration_s:
        raise DurationLimit(
            f"The video lasts {duration_s:.1f} s; at most {limits.max_duration_s:g} s are accepted. "
            "Send a part of it: `ffmpeg -i INPUT -t SECONDS -c copy OUTPUT.mkv`.",
            limit=limits.max_duration_s,
            actual=round(duration_s, 3),
        )
