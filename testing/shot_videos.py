"""Videos of several shots whose boundaries are known: made-up scenes before cameras that stand still or pan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testing.videos import Image, write_video

WIDTH, HEIGHT = 160, 90


@dataclass(frozen=True)
class Scene:
    """One shot.

    Attributes:
        frames: how many frames it has, those of the dissolve after it not counted.
        pan: pixels that the camera turns to the right from frame to frame.
        dissolve: frames over which it turns into the next shot.
    """

    frames: int
    pan: float = 0.0
    dissolve: int = 0


def texture(rng: np.random.Generator, width: int = 4 * WIDTH, height: int = HEIGHT) -> NDArray[np.float64]:
    """`[height, width, 3]` of 0 to 255: blobs of several sizes, as random as `rng`."""
    total = np.full((height, width, 3), 128.0) + rng.uniform(-40, 40, 3)
    for cells, strength in ((3, 60.0), (8, 35.0), (24, 18.0)):
        coarse = rng.normal(0, strength, (cells + 2, cells * width // height + 2, 3))
        y, x = (np.linspace(0, n - 1.001, size) for n, size in zip(coarse.shape, (height, width), strict=False))
        low_y, low_x = y.astype(int), x.astype(int)
        part_y, part_x = (y - low_y)[:, None, None], (x - low_x)[None, :, None]
        top = coarse[low_y][:, low_x] * (1 - part_x) + coarse[low_y][:, low_x + 1] * part_x
        bottom = coarse[low_y + 1][:, low_x] * (1 - part_x) + coarse[low_y + 1][:, low_x + 1] * part_x
        total += top * (1 - part_y) + bottom * part_y
    return np.clip(total, 0, 255)


def frames_of(scenes: Sequence[Scene], seed: int = 0) -> list[Image]:
    """The pictures of the scenes one after the other, `[HEIGHT, WIDTH, 3]` each."""
    rng = np.random.default_rng(seed)
    textures = [texture(rng) for _ in scenes]

    def seen(number: int, frame: int) -> NDArray[np.float64]:
        return np.roll(textures[number], -round(scenes[number].pan * frame), axis=1)[:, :WIDTH]

    frames: list[Image] = []
    late = 0
    for number, scene in enumerate(scenes):
        frames += [seen(number, late + frame).astype(np.uint8) for frame in range(scene.frames)]
        for step in range(scene.dissolve):
            share = (step + 1) / (scene.dissolve + 1)
            before, after = seen(number, late + scene.frames + step), seen(number + 1, step)
            frames.append(((1 - share) * before + share * after).astype(np.uint8))
        late = scene.dissolve
    return frames


def write_shots(path: Path, scenes: Sequence[Scene], *, seed: int = 0, fps: int = 30, **options: Any) -> Path:
    """Write the scenes as a video to `path`."""
    frames = frames_of(scenes, seed)
    return write_video(
        path, len(frames), fps=fps, size=(WIDTH, HEIGHT), draw=lambda number, width, height: frames[number], **options
    )
