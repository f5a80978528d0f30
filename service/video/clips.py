"""One upload to the clips of one job: the work that a decode process does."""

from __future__ import annotations

import errno
import os
import time
from collections import defaultdict

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.contracts import AnswerWarning, DecodedVideo, JobRequest, ModelSpec, SampledWindow, VideoInfo
from service.errors import DiskFull, Undecodable, VideoTooShort
from service.video.config import VideoLimits
from service.video.decode import pick_frames
from service.video.decoder import Picked
from service.video.plan import Window, coverage, plan_windows
from service.video.probe import Probe, Video, open_video
from service.video.resize import Resizer
from service.video.source import Openable

# A header that rounds, or a last frame without a length, is no truncation.
_TRUNCATED_SHARE = 0.95
_TRUNCATED_S = 0.5


def allocate(out: Openable, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A new file of C-order uint8 `shape`, mapped into memory.

    Raises:
        DiskFull: the file system has no room for it.
    """
    size = int(np.prod(shape))
    try:
        with out.open("w+b") as file:
            if hasattr(os, "posix_fallocate"):
                # Blocks are reserved now: running out of space later, inside the mapping, would kill the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(f"There is no room for {size} bytes of decoded clips.", actual=size) from error


def _warnings(found: Probe, windows: list[Window], picked: Picked) -> list[AnswerWarning]:
    warnings = []
    timeline = found.timeline
    declared = found.declared_s or 0.0
    if timeline.duration_s < declared * _TRUNCATED_SHARE and declared - timeline.duration_s > _TRUNCATED_S:
        warnings.append(
            AnswerWarning(
                code="truncated_video",
                detail=f"The header promises {declared:.2f} s of video; the file holds {timeline.duration_s:.2f} s.",
            )
        )
    if timeline.demux_error or picked.errors:
        reason = timeline.demux_error or picked.last_error
        warnings.append(
            AnswerWarning(
                code="damaged_video",
                detail=f"The file is damaged ({reason}): of {timeline.packet_count} packets of video {picked.errors} "
                "did not decode whole; the nearest good frames stand in.",
            )
        )
    if repeated := sum(window.repeated for window in windows):
        slots = sum(len(window.wanted_s) for window in windows)
        warnings.append(
            AnswerWarning(
                code="frames_repeated",
                detail=f"{repeated} of {slots} sampled frames lie past the end and repeat the last frame.",
            )
        )
    return warnings


def _check_distinct(found: Probe, picked: Picked, limits: VideoLimits) -> None:
    distinct = len(set(picked.times_s))
    if distinct >= limits.min_distinct_frames:
        return
    if damage := found.timeline.demux_error or picked.last_error:
        raise Undecodable(
            f"The video is damaged ({damage}): of the frames to sample only {distinct} different ones decode; "
            f"at least {limits.min_distinct_frames} are needed.",
            limit=limits.min_distinct_frames,
            actual=distinct,
        )
    raise VideoTooShort(
        f"Only {distinct} different frames can be sampled from {found.timeline.duration_s:.3f} s of video; "
        f"at least {limits.min_distinct_frames} are needed.",
        limit=limits.min_distinct_frames,
        actual=distinct,
    )


def decode_file(
    path: Openable, out: Openable, spec: ModelSpec, request: JobRequest, limits: VideoLimits
) -> DecodedVideo:
    """Decode the clips that `request` asks of the upload at `path`, and write them to `out`.

    `out` holds C-order uint8 `[windows, crops, T, H, W, 3]` RGB: the clips in the order of `DecodedVideo.clips`.

    Raises:
        VidtrError: one of the errors of `service.errors` under "the video", InvalidOption or DiskFull.
        MemoryError: the process may not have the memory that the video needs.
    """
    began = time.perf_counter()
    with open_video(path, limits, every_frame=spec.sampling == "index") as video:
        decoded = _decode(video, out, spec, request, limits)
    return decoded.model_copy(update={"decode_ms": (time.perf_counter() - began) * 1000})


def _decode(video: Video, out: Openable, spec: ModelSpec, request: JobRequest, limits: VideoLimits) -> DecodedVideo:
    found = video.found
    timeline = found.timeline
    windows = plan_windows(timeline.duration_s, timeline.frame_times_s, timeline.tick_s, spec, request, limits)
    slots: defaultdict[float, list[tuple[int, int]]] = defaultdict(list)
    for w, window in enumerate(windows):
        for k, moment in enumerate(window.wanted_s):
            slots[moment].append((w, k))
    moments = sorted(slots)

    clips = allocate(out, (len(windows), request.crops, *spec.clip_shape))
    resizer = Resizer(spec, request.crops, found.pixel_aspect, limits)

    def take(index: int, frame: VideoFrame) -> None:
        crops = resizer.crops(frame)
        for w, k in slots[moments[index]]:
            for c, crop in enumerate(crops):
                clips[w, c, k] = crop

    picked = pick_frames(video, moments, take, limits)
    _check_distinct(found, picked, limits)
    shown_at = dict(zip(moments, picked.times_s, strict=True))
    return DecodedVideo(
        video=VideoInfo(
            duration_s=timeline.duration_s,
            width=resizer.display_width,
            height=resizer.display_height,
            fps=timeline.fps,
            container=found.family.name,
            codec=found.codec,
            rotation=resizer.rotation,
            frames_decoded=picked.frames_decoded,
        ),
        coverage=coverage(windows, timeline.duration_s),
        windows=tuple(
            SampledWindow(
                start_s=window.start_s,
                end_s=window.end_s,
                times_s=tuple(shown_at[moment] for moment in window.wanted_s),
            )
            for window in windows
        ),
        crops=request.crops,
        clip_shape=spec.clip_shape,
        warnings=tuple(_warnings(found, windows, picked)),
        decode_ms=0.0,
    )
