"""Windows cut out of the frames of a shot along a camera path."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from service.evaluation.camera_paths import CameraPath

_SMALLEST = 110
"""Pixels of the source that the narrowest window may be wide."""


def crop(
    frames: NDArray[np.uint8],
    path: CameraPath,
    aspect: float,
    rng: np.random.Generator,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8] | None:
    """Frames `(N, H, W, 3)` as seen through a window along the path: `(N, h, w, 3)` with `w / h` near `aspect`.

    The window begins where and as large as chance has it, and stays inside the frames all the time. It is written at
    `size` `(h, w)`, or at that of its largest view. None where the frames are too small for the path.
    """
    height, width = frames.shape[1:3]
    half = np.array([0.5, 0.5 / aspect])
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * half  # (4, 2)
    view, cos, sin = np.exp(path.log_view), np.cos(path.angle), np.sin(path.angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2) * view[:, None, None]  # (N, 2, 2)
    reach = path.center[:, None] + np.einsum("nij,kj->nki", turn, corners)  # (N, 4, 2)
    low, high = reach.min(axis=(0, 1)), reach.max(axis=(0, 1))
    largest = min((width - 2) / (high[0] - low[0]), (height - 2) / (high[1] - low[1]))
    pixels = largest * rng.uniform(0.8, 1.0)
    if pixels * view.min() < _SMALLEST:
        return None
    room = np.array([width, height]) - pixels * (high - low)
    origin = rng.uniform(0, 1, 2) * room - pixels * low
    if size is None:
        # Even numbers, as encoders want them.
        size = (2 * math.ceil(pixels * view.max() / aspect / 2), 2 * math.ceil(pixels * view.max() / 2))
    # From -1 .. 1 over the window to -1 .. 1 over the frame, as torch counts.
    frame = np.array([width, height])
    matrix = turn * half * (2 * pixels / frame)[:, None]
    shift = 2 * (pixels * path.center + origin) / frame - 1
    theta = torch.from_numpy(np.concatenate([matrix, shift[..., None]], -1)).float()
    grid = F.affine_grid(theta, [len(frames), 3, *size], align_corners=False)
    seen = F.grid_sample(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), grid, align_corners=False, padding_mode="border"
    )
    return seen.permute(0, 2, 3, 1).round().clamp(0, 255).byte().numpy()


def shows_edges(picture: NDArray[np.uint8], block: int = 16, deviation: float = 6.0, share: float = 0.5) -> bool:
    """Whether motion over the picture `(h, w, 3)` could be seen: most of 16 x 16 blocks hold some contrast."""
    gray = picture.mean(axis=2)
    height, width = (n // block * block for n in gray.shape)
    blocks = gray[:height, :width].reshape(height // block, block, width // block, block)
    return bool((blocks.std(axis=(1, 3)) > deviation).mean() > share)
