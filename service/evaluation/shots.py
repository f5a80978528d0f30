"""Shots of real videos and whether their camera stands still.

Shapes: N frames of a shot, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from service.training.samples import VIDEOS

_LONG_SIDE = 640
_SMALL_WIDTH = 128
_STEPS = 12


@dataclass(frozen=True)
class Shot:
    """Successive frames of a file."""

    path: Path
    start_s: float
    fps: float
    frames: NDArray[np.uint8]
    """`(N, H, W, 3)` RGB, the long side at most 640 pixels."""


def video_files(folders: Sequence[Path]) -> list[Path]:
    """All video files below the folders, in order of their names."""
    return sorted({p.resolve() for folder in folders for p in folder.rglob("*") if p.suffix.lower() in VIDEOS})


def read_shots(path: Path, seconds: float, most: int) -> Iterator[Shot]:
    """Up to `most` stretches of `seconds` of a file, evenly spread and not overlapping.

    Files that do not decode to their end, whose frame rate is not steady, that are turned by a display matrix, or whose
    short side is under 120 pixels, give none.
    """
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            fps = float(stream.average_rate or 0)
            if not 8 <= fps <= 61:
                return
            ratio = min(1.0, _LONG_SIDE / max(stream.width, stream.height, 1))
            size = (round(stream.width * ratio), round(stream.height * ratio))
            if min(size) < 120:
                return
            length = round(seconds * fps) + 1
            for frame in container.decode(stream):
                if frame.rotation or len(frames) >= 40 * length:
                    break
                small = frame.reformat(width=size[0], height=size[1], format="rgb24", interpolation="AREA")
                frames.append(small.to_ndarray().astype(np.uint8, copy=False))
    except (FFmpegError, IndexError):
        return
    count = min(most, len(frames) // length)
    for i in range(count):
        first = i * (len(frames) - length) // max(1, count - 1) if count > 1 else (len(frames) - length) // 2
        yield Shot(path, first / fps, fps, np.stack(frames[first : first + length]))


def stillness(frames: NDArray[np.uint8]) -> tuple[float, float]:
    """The share of edges that stay where they are, from 0 to 1, and the share of pixels that are edges.

    A pixel with a brightness gradient stays if its gray level differs from that of the median frame by less than a
    third of a pixel's motion would explain, at 128 pixels of width; the share is that of the worst of 12 frames. Of a
    camera that moves, even slowly, hardly an edge stays; what moves before a still one covers some of them.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, _STEPS).round().astype(int)]
    factor = max(1, chosen.shape[2] // _SMALL_WIDTH)
    height, width = (n // factor * factor for n in chosen.shape[1:3])
    gray = chosen[:, :height, :width].mean(axis=3)
    small = gray.reshape(len(gray), height // factor, factor, width // factor, factor).mean(axis=(2, 4))
    reference = np.median(small, axis=0)
    slope = np.hypot(*np.gradient(reference))
    edges = slope > 4.0
    if not edges.any():
        return 0.0, 0.0
    moved = np.abs(small - reference)[:, edges] > np.maximum(3.0, slope[edges] / 3)
    return float(1 - moved.mean(axis=1).max()), float(edges.mean())
