"""One upload to the clips of one job: the work that a decode process does."""

from __future__ import annotations

import errno
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.contracts import AnswerWarning, ClipSpec, DecodedVideo, JobRequest, SampledWindow, VideoInfo
from service.errors import DiskFull, Undecodable, VideoTooShort
from service.video.config import VideoLimits
from service.video.decode import pick_frames
from service.video.decoder import DecodeStats
from service.video.probe import Probe, Video, open_video
from service.video.resize import Resizer
from service.video.source import Openable
from service.video.windows import Window, coverage, plan_windows, wanted_until_s

# A header that rounds, or a last frame without a length, is no truncation.
_TRUNCATED_SHARE = 0.95
_TRUNCATED_S = 0.5
# Transfer functions of ISO/IEC 23091-2 that stand for more light than a display of standard range can show.
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


class ClipFile:
    """The clips of one job in a file, written picture by picture.

    Written, not mapped: every page of a mapping that is touched first costs a fault, which is dearer than the copy; and
    a file system that is full is an error of a write, where it ends a process that has mapped the file.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        """`file` is open for writing and empty; `shape` is that of all its clips, `[windows, crops, T, H, W, 3]`.

        It grows with what is written: a process that decodes may neither reserve blocks nor set a file's size.
        """
        self._descriptor = file.fileno()
        self._steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(3))
        self._bytes = math.prod(shape)

    def write(self, window: int, crop: int, slot: int, picture: NDArray[np.uint8]) -> None:
        """Put a `[H, W, 3]` picture in its place.

        Raises:
            DiskFull: the file system has no room for it.
        """
        place = window * self._steps[0] + crop * self._steps[1] + slot * self._steps[2]
        data = memoryview(picture.tobytes())
        with self._translate_disk_full():
            while data:
                written = os.pwrite(self._descriptor, data, place)
                data, place = data[written:], place + written

    @contextmanager
    def _translate_disk_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DiskFull(f"There is no room for {self._bytes} bytes of decoded clips.", actual=self._bytes) from error


def _warnings(probe: Probe, windows: list[Window], stats: DecodeStats, transfer: int) -> list[AnswerWarning]:
    warnings = []
    timeline = probe.timeline
    declared = probe.declared_s or 0.0
    if timeline.duration_s < declared * _TRUNCATED_SHARE and declared - timeline.duration_s > _TRUNCATED_S:
        warnings.append(
            AnswerWarning(
                code="truncated_video",
                detail=f"The header promises {declared:.2f} s of video; the file holds {timeline.duration_s:.2f} s.",
            )
        )
    if timeline.demux_error or stats.errors:
        reason = timeline.demux_error or stats.last_error
        warnings.append(
            AnswerWarning(
                code="damaged_video",
                detail=f"The file is damaged ({reason}): of {timeline.packet_count} packets of video {stats.errors} "
                "did not decode whole; the nearest good frames stand in.",
            )
        )
    if curve := _HIGH_DYNAMIC_RANGE.get(transfer):
        warnings.append(
            AnswerWarning(
                code="high_dynamic_range",
                detail=f"The video has high dynamic range ({curve}). Its code values are used as they are, without "
                "tone mapping, so the model sees flatter and darker pictures than a viewer.",
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


def _check_distinct(probe: Probe, stats: DecodeStats, limits: VideoLimits) -> None:
    distinct = len(set(stats.times_s))
    if distinct >= limits.min_distinct_frames:
        return
    if damage := probe.timeline.demux_error or stats.last_error:
        raise Undecodable(
            f"The video is damaged ({damage}): of the frames to sample only {distinct} different ones decode; "
            f"at least {limits.min_distinct_frames} are needed.",
            limit=limits.min_distinct_frames,
            actual=distinct,
        )
    raise VideoTooShort(
        f"Only {distinct} different frames can be sampled from {probe.timeline.duration_s:.3f} s of video; "
        f"at least {limits.min_distinct_frames} are needed.",
        limit=limits.min_distinct_frames,
        actual=distinct,
    )


def decode_file(
    path: Openable, out: Openable, spec: ClipSpec, request: JobRequest, limits: VideoLimits
) -> DecodedVideo:
    """Decode the clips that `request` asks of the upload at `path`, and write them to `out`.

    `out` holds C-order uint8 `[windows, crops, T, H, W, 3]` RGB: the clips in the order of `DecodedVideo.clips`.

    Raises:
        VidtrError: one of the errors of `service.errors` under "the video", InvalidOption or DiskFull.
        MemoryError: the process may not have the memory that the video needs.
    """
    began = time.perf_counter()
    with open_video(path, limits, spec.sampling == "index", wanted_until_s(spec, request)) as video:
        decoded = _decode(video, out, spec, request, limits)
    return decoded.model_copy(update={"decode_ms": (time.perf_counter() - began) * 1000})


def _decode(video: Video, out: Openable, spec: ClipSpec, request: JobRequest, limits: VideoLimits) -> DecodedVideo:
    probe = video.probe
    timeline = probe.timeline
    frame_times_s = timeline.frame_times_s if spec.sampling == "index" else ()
    windows = plan_windows(timeline.duration_s, frame_times_s, timeline.tick_s, spec, request, limits)
    slots: defaultdict[float, list[tuple[int, int]]] = defaultdict(list)
    for w, window in enumerate(windows):
        for k, timestamp in enumerate(window.wanted_s):
            slots[timestamp].append((w, k))
    timestamps = sorted(slots)

    resizer = Resizer(spec, request.crops, probe.pixel_aspect, limits)
    with out.open("w+b") as file:
        clips = ClipFile(file, (len(windows), request.crops, *spec.clip_shape))

        def sink(index: int, frame: VideoFrame) -> None:
            for c, crop in enumerate(resizer.crops(frame)):
                for w, k in slots[timestamps[index]]:
                    clips.write(w, c, k, crop)

        stats = pick_frames(video, timestamps, sink, limits)
    _check_distinct(probe, stats, limits)
    shown_at = dict(zip(timestamps, stats.times_s, strict=True))
    return DecodedVideo(
        video=VideoInfo(
            duration_s=timeline.duration_s,
            width=resizer.display_width,
            height=resizer.display_height,
            fps=timeline.fps,
            container=probe.family.name,
            codec=probe.codec,
            rotation=resizer.rotation,
            frames_decoded=stats.frames_decoded,
        ),
        coverage=coverage(windows, timeline.duration_s),
        windows=tuple(
            SampledWindow(
                start_s=window.start_s,
                end_s=window.end_s,
                times_s=tuple(shown_at[timestamp] for timestamp in window.wanted_s),
            )
            for window in windows
        ),
        crops=request.crops,
        clip_shape=spec.clip_shape,
        warnings=tuple(_warnings(probe, windows, stats, resizer.transfer)),
        decode_ms=0.0,
    )
