"""One upload to the clips of one job: the work that a decode process does."""

from __future__ import annotations

import errno
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import IO

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.contracts import AnswerWarning, ClipSpec, DecodedVideo, JobRequest, SampledWindow, VideoInfo
from service.errors import DiskFull
from service.video.answer_warnings import check_enough, warnings_of
from service.video.config import VideoLimits
from service.video.decode import pick_frames
from service.video.probe import Video, open_video
from service.video.progress import Tell, Told
from service.video.resize import Resizer
from service.video.shot_boundaries import FoundBoundaries, Glimpses, find_boundaries, reopened, search_boundaries
from service.video.source import Openable
from service.video.windows import Window, coverage, plan_windows, wanted_until_s


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


def _shot_warnings(found: FoundBoundaries | None, limits: VideoLimits) -> list[AnswerWarning]:
    if found is None or not found.left_out:
        return []
    detail = (
        f"The video may have {found.left_out} shots more than the {limits.max_shots} that are looked for; "
        "those with the smallest changes are joined."
    )
    return [AnswerWarning(code="shots_joined", detail=detail)]


def decode_file(
    path: Openable,
    out: Openable,
    spec: ClipSpec,
    request: JobRequest,
    limits: VideoLimits,
    tell: Tell | None = None,
) -> DecodedVideo:
    """Decode the clips that `request` asks of the upload at `path`, and write them to `out`.

    `out` holds C-order uint8 `[windows, crops, T, H, W, 3]` RGB: the clips in the order of `DecodedVideo.clips`.
    `tell` is called with what `service.video.progress` reads, whenever further windows of many are complete.

    Raises:
        VidtrError: one of the errors of `service.errors` under "the video", InvalidOption or DiskFull.
        MemoryError: the process may not have the memory that the video needs.
    """
    began = time.perf_counter()
    with open_video(path, limits, spec.sampling == "index", wanted_until_s(spec, request), request.stream) as video:
        decoded = _decode(video, out, spec, request, limits, tell)
    return decoded.model_copy(update={"decode_ms": (time.perf_counter() - began) * 1000})


def _decode(
    video: Video, out: Openable, spec: ClipSpec, request: JobRequest, limits: VideoLimits, tell: Tell | None
) -> DecodedVideo:
    probe = video.probe
    timeline = probe.timeline
    frame_times_s = timeline.frame_times_s if spec.sampling == "index" else ()
    found = search_boundaries(video, spec, request, limits) if request.split == "shots" else None
    starts_s = [] if found is None else [boundary.middle_s for boundary in found.boundaries]
    windows = plan_windows(timeline.duration_s, frame_times_s, timeline.tick_s, spec, request, limits, starts_s)
    slots: defaultdict[float, list[tuple[int, int]]] = defaultdict(list)
    for w, window in enumerate(windows):
        for k, timestamp in enumerate(window.wanted_s):
            slots[timestamp].append((w, k))
    timestamps = sorted(slots)

    wanted = [window.wanted_s for window in windows]
    resizer = Resizer(spec, request.crops, probe.pixel_aspect, limits, probe.orientations)
    glimpses = Glimpses(len(timestamps)) if request.wants_shots and found is None else None
    with out.open("w+b") as file, nullcontext(video) if found is None else reopened(video, limits) as source:
        clips = ClipFile(file, (len(windows), request.crops, *spec.clip_shape))
        latest: tuple[VideoFrame | None, list[NDArray[np.uint8]]] = (None, [])

        def sink(index: int, frame: VideoFrame) -> None:
            nonlocal latest
            # Times of overlapping windows that differ by a rounding show the same frame.
            if frame is not latest[0]:
                latest = frame, resizer.crops(frame)
            if glimpses is not None:
                glimpses.look(index, frame)
            for c, crop in enumerate(latest[1]):
                for w, k in slots[timestamps[index]]:
                    clips.write(w, c, k, crop)

        told = None
        if tell is not None:
            numbers = {timestamp: index for index, timestamp in enumerate(timestamps)}
            of_windows = [[numbers[timestamp] for timestamp in window.wanted_s] for window in windows]
            told = Told(tell, of_windows, lambda: _described(video, resizer, windows, wanted, spec, request))
        stats = pick_frames(source, timestamps, sink, limits, None if told is None else told.settled)
    check_enough(video, windows, spec.frame_step / spec.reference_fps, stats, limits)
    if glimpses is not None:
        frames_left = limits.max_decoded_frames - stats.frames_decoded
        found = find_boundaries(video, *glimpses.distinct(stats.times_s), limits, frames_left)
    shown_at = dict(zip(timestamps, stats.times_s, strict=True))
    shown = [tuple(shown_at[timestamp] for timestamp in window.wanted_s) for window in windows]
    frames_decoded = stats.frames_decoded + (0 if found is None else found.frames_decoded)
    return _described(video, resizer, windows, shown, spec, request, frames_decoded).model_copy(
        update={
            "warnings": (
                *warnings_of(video, windows, shown, stats, resizer, limits),
                *_shot_warnings(found, limits),
            ),
            "boundaries": None if found is None else found.boundaries,
        }
    )


def _described(
    video: Video,
    resizer: Resizer,
    windows: Sequence[Window],
    times_s: Sequence[tuple[float, ...]],
    spec: ClipSpec,
    request: JobRequest,
    frames_decoded: int = 0,
) -> DecodedVideo:
    """What the video and its windows are, whose frames are shown at `times_s`; all else comes with the end."""
    probe = video.probe
    timeline = probe.timeline
    return DecodedVideo(
        video=VideoInfo(
            duration_s=timeline.duration_s,
            width=resizer.display_width,
            height=resizer.display_height,
            fps=timeline.fps,
            container=probe.family.name,
            codec=probe.codec,
            rotation=resizer.rotation,
            mirrored=resizer.mirrored,
            stream=probe.number,
            video_streams=probe.streams,
            frames_decoded=frames_decoded,
        ),
        coverage=coverage(windows, timeline.duration_s),
        windows=tuple(
            SampledWindow(start_s=window.start_s, end_s=window.end_s, times_s=shown_s)
            for window, shown_s in zip(windows, times_s, strict=True)
        ),
        crops=request.crops,
        clip_shape=spec.clip_shape,
        decode_ms=0.0,
    )
