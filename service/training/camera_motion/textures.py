"""Pictures for the virtual camera to look at: square tiles of photographs, and procedural textures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
_LEAVES = 160
TEXTURED = 0.7
"""Share of a tile that has edges, at least."""


def picture_files(folder: Path, at_least_bytes: int = 150_000) -> list[Path]:
    """Pictures below a folder, sorted by path; smaller files, mostly thumbnails, are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    return sorted(path for path in found if path.stat().st_size >= at_least_bytes)


def read_picture(path: Path, long_side: int = 1600) -> Tensor:
    """One picture as uint8 `(3, H, W)` RGB, its long side at most `long_side` pixels.

    Raises OSError (`av.FFmpegError` is one) where it cannot be decoded.
    """
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    ratio = min(1.0, long_side / max(frame.width, frame.height))
    picture = frame.reformat(
        width=max(1, round(frame.width * ratio)),
        height=max(1, round(frame.height * ratio)),
        format="rgb24",
        interpolation="AREA",
    ).to_ndarray()
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def picture_tiles(
    picture: Tensor, count: int, side: int, generator: torch.Generator, share: float = TEXTURED
) -> Iterator[Tensor]:
    """Random square crops of a picture uint8 `(3, H, W)`, from all of it down to `side` pixels, resized to `side`.

    Up to `count` of those that show motion; a picture that has few of them, such as a sky, gives fewer.
    """
    short = min(picture.shape[1:])
    found = 0
    for _ in range(3 * count):
        if found == count:
            return
        u = float(torch.rand((), generator=generator)) ** 2  # large crops more often: they have more in them
        crop = round(short * (min(1.0, side / short) ** u))
        top, left = (int(torch.randint(0, n - crop + 1, (), generator=generator)) for n in picture.shape[1:])
        tile = picture[None, :, top : top + crop, left : left + crop].float()
        resized = F.interpolate(tile, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        whole = resized[0].round().clamp(0, 255).to(torch.uint8)
        if shows_motion(whole, share=share):
            found += 1
            yield whole


def shows_motion(tile: Tensor, block: int = 24, deviation: float = 7.0, share: float = TEXTURED) -> bool:
    """Whether a camera's motion over the tile uint8 `(3, S, S)` can be seen at all.

    Most of its blocks must have some brightness edge: the share is taken over blocks of `block` pixels, whose gray
    levels, after a blur that removes grain, must deviate by `deviation` of 255.
    """
    gray = F.avg_pool2d(tile.float().mean(0)[None, None], 3, stride=2)
    blocks = F.unfold(gray, block // 2, stride=block // 2)[0]  # (pixels of a block, blocks)
    return bool((blocks.std(0) > deviation).float().mean() > share)


def dead_leaves(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Overlapping discs and boxes of power-law sizes and random colors, some of them striped: `(side, side, 3)`."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    canvas = np.broadcast_to(rng.uniform(0, 255, 3), (side, side, 3)).copy()
    for size in np.sort((rng.pareto(1.6, _LEAVES) + 1) * side * 0.02)[::-1]:
        size = min(size, side * 0.45)
        cx, cy = rng.uniform(0, side, 2)
        turn = rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        v = v * rng.uniform(1, 3)
        inside = (u * u + v * v < size * size) if rng.random() < 0.5 else (np.maximum(abs(u), abs(v)) < size)
        color = rng.uniform(0, 255, 3)
        if rng.random() < 0.3:
            wave = np.sin(u[inside] * rng.uniform(0.3, 1.5))[:, None]
            canvas[inside] = color + wave * rng.uniform(10, 60)
        else:
            canvas[inside] = color
    return canvas.clip(0, 255).astype(np.uint8)


def colored_noise(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise with a spectrum of 1 / f^a, a between 0.8 and 1.8: `(side, side, 3)`."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    f[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((3, side, side))) / f ** rng.uniform(0.8, 1.8)
    noise = np.fft.ifft2(spectrum).real
    mix = np.eye(3) * rng.uniform(0.1, 1) + 1 / 3
    noise = np.einsum("ij,jhw->hwi", mix, noise)
    noise = (noise - noise.mean()) / (noise.std() + 1e-6)
    gray: NDArray[np.float64] = 128 + noise * rng.uniform(20, 60)
    return gray.clip(0, 255).astype(np.uint8)


def glyphs(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rows of small block letters on a gradient, like a page or a sign: `(side, side, 3)`."""
    ramp = np.linspace(rng.uniform(0, 255, 3), rng.uniform(0, 255, 3), side)
    page = np.broadcast_to(ramp[:, None], (side, side, 3)).copy()
    cell = int(rng.integers(6, 18))
    ink = rng.uniform(0, 255, 3)
    for top in range(2, side - cell, cell + cell // 2):
        for left in range(2, side - cell, cell):
            if rng.random() < 0.8:
                letter = np.kron(rng.random((5, 3)) < 0.55, np.ones((max(1, cell // 6), max(1, cell // 5)), bool))
                h, w = (min(n, cell) for n in letter.shape)
                page[top : top + h, left : left + w][letter[:h, :w]] = ink
    return page.clip(0, 255).astype(np.uint8)


def texture_bank(
    pictures: Sequence[Path], *, tiles_each: int, procedural: int, side: int, seed: int, share: float = TEXTURED
) -> Tensor:
    """Tiles of all pictures that show motion, and `procedural` made-up ones: uint8 `(N, 3, side, side)`.

    At least `share` of each tile has edges.

    Equal seeds give equal banks.

    Raises ValueError where there would be fewer than two tiles: a cut needs two.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    tiles = [
        tile for path in pictures for tile in picture_tiles(read_picture(path), tiles_each, side, generator, share)
    ]
    kinds = (dead_leaves, colored_noise, glyphs)
    made = (kinds[(0, 0, 0, 1, 2)[i % 5]](side, rng) for i in range(procedural))
    tiles += [torch.from_numpy(picture).permute(2, 0, 1).contiguous() for picture in made]
    if len(tiles) < 2:
        raise ValueError(f"at least 2 textures are needed, not {len(tiles)}")
    return torch.stack(tiles)
