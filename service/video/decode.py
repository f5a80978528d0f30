"""Pick frames of a stream by time: by a plan where that is exact, else by decoding everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from av.video.frame import VideoFrame

from service.video.config import VideoLimits
from service.video.decoder import DecodeStats, FrameSink, Settled
from service.video.packet_source import PlanUnsafe
from service.video.probe import Video
from service.video.seeking_decoder import pick_planned
from service.video.sequential import pick_sequentially


def pick_frames(
    video: Video, timestamps: Sequence[float], sink: FrameSink, limits: VideoLimits, settled: Settled | None = None
) -> DecodeStats:
    """Call `sink(i, frame)` with the last frame presented at or before `timestamps[i]` (plus half a tick), for each i.

    For frames that do not decode the nearest earlier good one stands in, at the start the first good one. Frames that
    the decoder mends without a word, from pictures before the damage, count as good.
    `sink` may be called again for an i that it has seen: the last call counts.

    Args:
        video: the open upload.
        timestamps: seconds from the first presented frame, ascending.
        sink: receives each picked frame at once, so that no more than one decoded frame is held.
        limits: gives the largest frame and the largest number of frames.
        settled: told of what `sink` has for good. What a plan has settled stays, even where the plan is given up later.

    Raises:
        Undecodable: not a single frame decodes.
        FrameLimit, PixelLimit: the stream is larger than the limits allow.
    """
    if settled is None:
        try:
            return pick_planned(video, timestamps, sink, limits)
        except PlanUnsafe:
            return pick_sequentially(video, timestamps, sink, limits)
    kept: list[float] = []

    def keep(times_s: Sequence[float]) -> None:
        kept.extend(times_s)
        settled(times_s)

    try:
        return pick_planned(video, timestamps, sink, limits, keep)
    except PlanUnsafe:
        first = len(kept)

    def sink_rest(index: int, frame: VideoFrame) -> None:
        if index >= first:
            sink(index, frame)

    def settle_rest(index: int, time_s: float) -> None:
        if index >= first:
            settled((time_s,))

    found = pick_sequentially(video, timestamps, sink_rest, limits, settle_rest)
    return replace(found, times_s=(*kept, *found.times_s[first:]))
