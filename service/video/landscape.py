"""Landscapes painted from numbers: sky with clouds and a sun, ranges of hills that pale with distance, water, trees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Color = tuple[float, float, float]

RANGES = 4

# Sky above, sky at the horizon, the nearest hills.
PALETTES: tuple[tuple[Color, Color, Color], ...] = (
    ((70, 120, 190), (248, 214, 170), (38, 66, 50)),
    ((40, 60, 120), (250, 160, 120), (52, 36, 56)),
    ((96, 160, 200), (226, 238, 236), (60, 84, 40)),
)


def landscape(number: int, width: int, height: int) -> Image:
    """A picture `[height, width, 3]`; `number` chooses its colors and its shapes, always the same ones."""
    rng = np.random.default_rng(7 + number)
    top, horizon, near = (np.array(color, np.float32) for color in PALETTES[number % len(PALETTES)])
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    clouds = _noise(rng, height, width, (4, 10), octaves=5)
    mix = np.clip(down * 1.5, 0, 1)[..., None]
    picture = top * (1 - mix) + horizon * mix
    picture = picture + (np.clip(clouds - 0.52, 0, 1) * 330 * (1 - down))[..., None]
    _sun(picture, rng, horizon)
    grain = _noise(rng, height, width, (24, 48), octaves=4) - 0.5
    rows = np.arange(height, dtype=np.float32)[:, None]
    for place in range(RANGES):
        near_by = (place + 1) / RANGES
        ridge = height * (0.42 + 0.42 * near_by - 0.3 * _ridge(rng, width, 3 + 2 * place))
        below = np.clip(rows - ridge[None, :], 0, 1)[..., None]
        color = horizon * (1 - near_by) * 0.8 + near * (near_by + 0.15)
        shade = color * (1 + grain[..., None] * (0.35 + 0.9 * near_by))
        picture = picture * (1 - below) + shade * below
    _trees(picture, rng, near)
    painted: Image = np.clip(picture, 0, 255).astype(np.uint8)
    return painted


def _noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int) -> Plane:
    """Smooth noise in 0..1, each octave twice as fine and a little more than half as strong."""
    total: Plane = np.zeros((height, width), np.float32)
    weights = 0.0
    for octave in range(octaves):
        rows, columns = cells[0] << octave, cells[1] << octave
        total += np.float32(0.55**octave) * _smooth(rng.random((rows + 1, columns + 1), np.float32), height, width)
        weights += 0.55**octave
    return total / np.float32(weights)


def _smooth(grid: Plane, height: int, width: int) -> Plane:
    down, right = _steps(grid.shape[0], height), _steps(grid.shape[1], width)
    rows: Plane = grid[down[0]] * (1 - down[1])[:, None] + grid[down[0] + 1] * down[1][:, None]
    mixed: Plane = rows[:, right[0]] * (1 - right[1]) + rows[:, right[0] + 1] * right[1]
    return mixed


def _steps(cells: int, size: int) -> tuple[NDArray[np.intp], Plane]:
    at = np.linspace(0, cells - 1, size, endpoint=False, dtype=np.float32)
    whole = at.astype(np.intp)
    part = at - whole
    return whole, part * part * (3 - 2 * part)


def _ridge(rng: np.random.Generator, width: int, cells: int) -> Plane:
    ridge: Plane = _noise(rng, 1, width, (1, cells), octaves=6)[0]
    return ridge


def _sun(picture: NDArray[np.float32], rng: np.random.Generator, color: NDArray[np.float32]) -> None:
    height, width = picture.shape[:2]
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(y - height * 0.24, x - width * rng.uniform(0.3, 0.7)) / height
    glow = np.exp(-((distance / 0.16) ** 2)) * 0.55 + np.clip((0.055 - distance) * 120, 0, 1)
    picture += glow[..., None].astype(np.float32) * (color * 0.35 + 90)


def _trees(picture: NDArray[np.float32], rng: np.random.Generator, color: NDArray[np.float32]) -> None:
    """Firs along the lower edge: triangles with a ragged side."""
    height, width = picture.shape[:2]
    for center in np.sort(rng.uniform(0, width, 46)):
        tall = int(height * rng.uniform(0.06, 0.2))
        foot = int(height * rng.uniform(0.86, 1.0))
        dark = color * rng.uniform(0.35, 0.7)
        for row in range(tall):
            half = int((row + 6 * (row % 11) / 11) * 0.2) + 1
            y, left = foot - tall + row, int(center) - half
            if 0 <= y < height:
                picture[y, max(0, left) : max(0, left + 2 * half)] = dark
