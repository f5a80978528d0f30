"""Which packets have to be decoded so that the wanted frames come out: segments that each start at a keyframe.

The timestamps of packets are those of the frames that they become, so the frames on screen at given timestamps are
known before any is decoded, and so is the last keyframe before each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from service.video.packet_index import REORDER_DEPTH, Packets, collect
from service.video.source import read_packets
from service.video.timeline import IndexUnreliable, Timeline

_SEEK_TRIES = 3


@dataclass(frozen=True)
class Keyframe:
    """A packet where decoding can start.

    Attributes:
        pts: when it is presented, in ticks.
        order: its place among the packets of the stream; only comparisons have a meaning.
        open_gop: whether pictures may follow that refer to the group before.
    """

    pts: int
    order: int
    open_gop: bool


@dataclass
class DecodeSegment:
    """A stretch of packets that is decoded without a break.

    Attributes:
        start: where it starts; None for the stream's first packet.
        wanted: for the frame of each presentation timestamp, the numbers of the wanted times that show it.
        last: place of the last packet that is needed.
    """

    start: Keyframe | None
    wanted: dict[int, list[int]] = field(default_factory=dict)
    last: int = -1


@dataclass(frozen=True)
class Target:
    """The packet that becomes the frame on screen, and the keyframe it depends on."""

    pts: int
    order: int
    key: Keyframe | None


def merge(targets: Sequence[Target]) -> list[DecodeSegment]:
    """The segments that lead to `targets`, which are in the order of presentation."""
    segments: list[DecodeSegment] = []
    for number, target in enumerate(targets):
        # Pictures that lead an open group lie behind its keyframe in the file: the segment is then already beyond it.
        if not segments or (target.key is not None and target.key.order > segments[-1].last):
            segments.append(DecodeSegment(target.key))
        segments[-1].wanted.setdefault(target.pts, []).append(number)
        segments[-1].last = max(segments[-1].last, target.order)
    return segments


def segments_of_packets(packets: Packets, timeline: Timeline, timestamps: Sequence[float]) -> list[DecodeSegment]:
    """The segments for `timestamps` (seconds, ascending) where all packets are known."""
    numbers = np.flatnonzero(packets.shown & (packets.pts >= timeline.origin))
    numbers = numbers[np.argsort(packets.pts[numbers], kind="stable")]
    keys = np.flatnonzero(packets.keyframe & packets.shown)
    bounds = np.array([timeline.ticks(timestamp) for timestamp in timestamps])
    places = np.clip(np.searchsorted(packets.pts[numbers], bounds, side="right") - 1, 0, None)
    targets = []
    for number in numbers[places].tolist():
        pts = int(packets.pts[number])
        before = int(np.searchsorted(packets.pts[keys], pts, side="right")) - 1
        key = int(keys[before]) if before >= 0 else -1
        start = Keyframe(int(packets.pts[key]), key, packets.open_gop(key)) if key >= 0 else None
        targets.append(Target(pts, number, start))
    return merge(targets)


class IndexedSegments:
    """Finds segments in a stream with a complete index in decoding time; reads only the packets around each target."""

    def __init__(self, container: InputContainer, stream: VideoStream, codec: str) -> None:
        self._container = container
        self._stream = stream
        self._index = stream.index_entries
        self._codec = codec

    def segments(self, timeline: Timeline, timestamps: Sequence[float]) -> list[DecodeSegment]:
        """The segments for `timestamps` (seconds, ascending).

        Raises:
            IndexUnreliable: the packets are not what the index promises.
        """
        targets: list[Target] = []
        known: tuple[Keyframe, Packets] | None = None
        bounds = [timeline.ticks(timestamp) for timestamp in timestamps]
        for bound in bounds:
            if known is None or not self._covers(known, bound):
                known = self._read(bound, self._last_of_group(bound, bounds))
            key, packets = known
            candidates = np.flatnonzero(packets.shown & (packets.pts <= bound))
            if not len(candidates):
                raise IndexUnreliable
            number = int(candidates[np.argmax(packets.pts[candidates])])
            targets.append(Target(int(packets.pts[number]), int(packets.dts[number]), key))
        return merge(targets)

    def _covers(self, known: tuple[Keyframe, Packets], bound: float) -> bool:
        key, packets = known
        entry = self._index.search_timestamp(int(bound), backward=True)
        return entry >= 0 and self._index[entry].timestamp <= key.order and passed(packets, bound)

    def _last_of_group(self, bound: float, bounds: Sequence[float]) -> float:
        """The last of the ascending `bounds` that the index places before the next keyframe after `bound`."""
        after = self._index.search_timestamp(int(bound) + 1, backward=False)
        before = bisect_left(bounds, self._index[after].timestamp) if after >= 0 else len(bounds)
        return max(bound, bounds[before - 1])

    def _read(self, bound: float, until: float) -> tuple[Keyframe, Packets]:
        """The packets from the last keyframe shown by `bound` up to where none can be shown by `until` any more."""
        try:
            first, packets = self._seek(bound)
            found = collect(until_passed(chain((first,), packets), until), self._codec, len(self._index))
        except FFmpegError as error:
            raise IndexUnreliable from error
        if not found.has_valid_timestamps or found.error:
            raise IndexUnreliable
        return Keyframe(int(found.pts[0]), int(found.dts[0]), found.open_gop(0)), found

    def _seek(self, bound: float) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]]]:
        """The last keyframe shown by `bound`, and the packets after it."""
        target = int(bound)
        # The index is in decoding time, so FFmpeg may take a keyframe that is presented too late.
        for _ in range(_SEEK_TRIES):
            self._container.seek(target, stream=self._stream, backward=True)
            packets = read_packets(self._container, self._stream)
            first = next(packets, None)
            if first is None or first.dts is None or first.pts is None or not first.is_keyframe:
                break
            if first.pts <= bound and not first.is_discard:
                return first, packets
            target = first.dts - 1
        raise IndexUnreliable


def until_passed(packets: Iterator[Packet[VideoStream]], bound: float) -> Iterator[Packet[VideoStream]]:
    """The packets up to where none can be presented by the timestamp `bound` any more."""
    later = 0
    for packet in packets:
        yield packet
        later = later + 1 if packet.pts is not None and packet.pts > bound else 0
        if later > REORDER_DEPTH:
            return


def passed(packets: Packets, bound: float) -> bool:
    """Whether no packet after these can be presented by the timestamp `bound`."""
    tail = packets.pts[-(REORDER_DEPTH + 1) :]
    return len(tail) > REORDER_DEPTH and bool(np.all(tail > bound))
