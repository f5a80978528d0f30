"""Windows of real videos with the motion of their camera, where the classical tracker is sure of it.

`python -m benchmarks.real_windows OUT.pt FOLDERS...` writes them as `real_windows` of a run's data wants them. Keep the
sources of windows that judge a model apart. Needs the extra `bench`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.classical_motion import LONG_SIDE, Motion, Rules, label_of, measure
from service.errors import VidtrError
from service.evaluation.shots import video_files
from service.training.camera_motion.living import HEIGHT, WIDTH, fitted
from service.training.camera_motion.real_windows import RealWindows, poses

FRAMES = 8
INTERVALS_S = (2 / 30, 4 / 30, 8 / 30)
"""Between sampled frames: half the speed, the speed that is served, and twice as fast."""
_RULES = Rules(points=24, inliers=0.45, known=FRAMES - 1)
_CLOSED = (0.002, 0.2)
"""Two successive motions and the one measured over both differ by at most that, or by that share of it."""
_MOST_STILL, _MOST_MOVING = 3, 40
"""Windows of a video."""
_HOP_S = 6 / 30
_LONGEST_S = 20.0


def gather(files: Sequence[Path]) -> RealWindows:
    """All windows of the videos in which every step of the camera is known.

    Raises ValueError where there is none.
    """
    frames, camera = [], []
    for path in files:
        still = 0
        moving = 0
        for window, motion in _sure_windows(path):
            label = label_of(motion, _RULES)
            if label == "static":
                still += 1
            else:
                moving += 1
            if (label == "static" and still > _MOST_STILL) or moving > _MOST_MOVING:
                continue
            frames.append(fitted(torch.from_numpy(np.stack(window)).permute(0, 3, 1, 2).float()))
            camera.append(poses(_camera_steps(motion, window[0].shape)))
    if not frames:
        raise ValueError("the tracker is sure of no window of these videos")
    return RealWindows(torch.stack(frames), torch.stack(camera))


def _sure_windows(path: Path) -> Iterator[tuple[list[NDArray[np.uint8]], Motion]]:
    try:
        times, frames = _read(path)
    except (VidtrError, av.FFmpegError, IndexError):
        return
    if not frames:
        return
    for interval in INTERVALS_S:
        last = times[-1] - (FRAMES - 1) * interval
        for start in np.arange(0.0, max(0.0, last + 1e-6), _HOP_S):
            moments = start + interval * np.arange(FRAMES)
            chosen = np.searchsorted(times, moments + 1e-6, side="right") - 1
            if chosen[0] < 0 or len(set(chosen.tolist())) < FRAMES:
                continue  # a frame that is shown twice is no motion
            window = [frames[i] for i in chosen]
            motion = measure(window, frames[chosen[0] : chosen[-1] + 1], _RULES)
            if label_of(motion, _RULES) not in ("cut", "fade", "unknown") and _closes(window, motion):
                yield window, motion


def _read(path: Path) -> tuple[NDArray[np.float64], list[NDArray[np.uint8]]]:
    times: list[float] = []
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            if frame.time is None or frame.rotation:
                continue
            if times and frame.time <= times[-1]:
                continue  # some files give times that go back
            if times and frame.time > times[0] + _LONGEST_S:
                break
            scale = min(1.0, LONG_SIDE / max(frame.width, frame.height))
            size = (max(2, round(frame.width * scale)), max(2, round(frame.height * scale)))
            small = frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()
            times.append(frame.time)
            frames.append(np.ascontiguousarray(small, dtype=np.uint8))
    return np.array(times) - (times[0] if times else 0.0), frames


def _closes(window: Sequence[NDArray[np.uint8]], motion: Motion) -> bool:
    """Whether motions measured over every second frame are the sums of those in between."""
    if not np.isfinite(motion.steps).all():
        return False
    for first in (0, 1):
        longer = measure(window[first::2], window[:1], _RULES).steps
        count = len(longer)
        summed = motion.steps[first : first + 2 * count].reshape(count, 2, 4).sum(1)
        bound = np.maximum(_CLOSED[0], _CLOSED[1] * np.abs(summed).max(1, keepdims=True))
        if not np.isfinite(longer).all() or (np.abs(longer - summed) > bound).any():
            return False
    return True


def _camera_steps(motion: Motion, shape: tuple[int, ...]) -> Tensor:
    """`(T-1, 4)` as `moves.steps` has them, in widths of the middle part that a window keeps."""
    height, width = shape[:2]
    kept = min(width, height * WIDTH // HEIGHT)
    steps = motion.steps * np.array([width / kept, width / kept, 1.0, -1.0])  # the camera turns against the content
    return torch.from_numpy(steps).float()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    out, *folders = map(Path, sys.argv[1:])
    found = gather(video_files(folders))
    found.save(out)
    sys.stdout.write(f"{len(found.frames)} windows are in {out}\n")
