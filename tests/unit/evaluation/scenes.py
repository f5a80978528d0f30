"""Pictures with contrast everywhere, for shots of still cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testing.videos import Image, write_video


def scene(seed: int, width: int, height: int) -> Image:
    """Blocks of random colors, of two sizes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for block in (8, 24):
        small = rng.integers(0, 128, (height // block + 1, width // block + 1, 3))
        picture += small.repeat(block, 0).repeat(block, 1)[:height, :width]
    return picture.astype(np.uint8)


def write_still(path: Path, seed: int, frames: int = 50, panned: int = 0, fps: int = 30) -> Path:
    """A video of a scene; its camera moves `panned` pixels a frame to the right."""
    wide = scene(seed, 320 + frames * panned, 240)

    def draw(number: int, width: int, height: int) -> Image:
        picture: NDArray[np.uint8] = wide[:, number * panned : number * panned + width].copy()
        picture[100:130, 4 * number : 4 * number + 30] = 200  # somebody walks by
        return picture

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, fps=fps, size=(320, 240), draw=draw, codec_options={"preset": "ultrafast"})
