"""What the videos of the page's tests show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testing.videos import Image

FPS = 30
CUT_S = 0.5
LONG_S = 30


def texture(seed: int, tint: tuple[float, float, float]) -> Image:
    """Squares of many sizes, in shades of a colour."""
    rng = np.random.default_rng(seed)
    height, width = 512, 1024
    total: NDArray[np.float64] = np.zeros((height, width, 1))
    for side in (64, 16, 8):
        total += np.kron(rng.random((height // side, width // side, 1)), np.ones((side, side, 1)))
    tinted: NDArray[np.uint8] = (255 * total / total.max() * tint).astype(np.uint8)
    return tinted


RED, BLUE = texture(1, (1.0, 0.45, 0.3)), texture(2, (0.3, 0.5, 1.0))


def part(picture: Image, x: float, y: float, width: int, height: int) -> Image:
    return np.ascontiguousarray(picture[int(y) : int(y) + height, int(x) : int(x) + width])


def red_then_blue(number: int, width: int, height: int) -> Image:
    return part(RED if number < CUT_S * FPS else BLUE, 100, 100, width, height)


def still_and_moving_in_turn(number: int, width: int, height: int) -> Image:
    scene, step = divmod(number, 3 * FPS)
    return part((RED, BLUE)[scene % 2], 60 + (3 * step if scene % 2 else 0), 100, width, height)
