"""Clips of a folder of real videos, as the service decodes them for a model: a window of each video in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from service.contracts import ClipSpec, JobRequest
from service.errors import VidtrError
from service.evidence import Clip
from service.video.clips import decode_file
from service.video.config import VideoLimits


def video_clips(folder: Path, spec: ClipSpec, limits: VideoLimits) -> Iterator[Clip]:
    """Clips uint8 `clip_shape`: the first window of each video, then the second of each, and so on.

    Files that are no video or too short for a window are passed over. Raises ValueError where no file decodes.
    """
    with tempfile.TemporaryDirectory(prefix="clips-") as scratch:
        by_video = []
        for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
            raw = Path(scratch) / str(number)
            try:
                decode_file(path, raw, spec, JobRequest(), limits)
            except VidtrError:
                continue
            by_video.append(np.fromfile(raw, dtype=np.uint8).reshape(-1, *spec.clip_shape))
            raw.unlink()
        if not by_video:
            raise ValueError(f"{folder} holds no video that decodes")
        for turn in zip_longest(*by_video):
            yield from (clip for clip in turn if clip is not None)
