"""Frames as the virtual camera sees them. Shapes: B clips, T frames, n pixels a side, S pixels a texture side."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion.trajectories import Paths, turned, turned_back


def scene_grid(paths: Paths, side: int) -> Tensor:
    """Where each pixel looks, `(B, T, n, n, 2)` in frame widths from the middle of the scene."""
    line = (torch.arange(side).float() + 0.5) / side - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    pixel = torch.stack([x, y], -1)  # (n, n, 2)
    look = turned(pixel, paths.log_view[..., None, None], paths.angle[..., None, None])
    return look + paths.center[:, :, None, None]


def camera_flow(paths: Paths, grid: int) -> Tensor:
    """Where the camera's motion carries the content of each cell of a `grid x grid` raster, `(B, T, g, g, 4)`.

    In frame widths, x and y to the next frame, then x and y to the frame before; NaN where there is no such frame.
    What moves by itself is not in it.
    """
    line = (torch.arange(grid).float() + 0.5) / grid - 0.5
    cell = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)  # (g, g, 2)
    log_view, angle = paths.log_view[..., None, None], paths.angle[..., None, None]
    center = paths.center[:, :, None, None]
    scene = turned(cell, log_view, angle) + center  # (B, T, g, g, 2)
    nowhere = torch.full_like(scene[:, :1], torch.nan)

    def seen(scene: Tensor, frames: slice) -> Tensor:
        return turned_back(scene - center[:, frames], log_view[:, frames], angle[:, frames]) - cell

    ahead = torch.cat([seen(scene[:, :-1], slice(1, None)), nowhere], 1)
    back = torch.cat([nowhere, seen(scene[:, 1:], slice(None, -1))], 1)
    return torch.cat([ahead, back], -1)


def sample(textures: Tensor, grid: Tensor, view: Tensor, offset: Tensor) -> Tensor:
    """Textures float `(B, 3, S, S)` at scene coordinates `(B, T, n, n, 2)`: `(B, 3, T, n, n)`.

    One frame width covers the share `view` `(B,)` of the texture, around `offset` `(B, 2)` in -1 .. 1.
    """
    batch, frames, side = grid.shape[:3]
    at = 2 * view[:, None, None, None, None] * grid + offset[:, None, None, None]
    flat = at.reshape(batch, frames * side, side, 2)
    seen = F.grid_sample(textures, flat, mode="bilinear", padding_mode="reflection", align_corners=False)
    return seen.view(batch, 3, frames, side, side)


def rippled(grid: Tensor, generator: torch.Generator) -> Tensor:
    """Scenes whose surface moves like water or leaves: small waves that travel through `(B, T, n, n, 2)`."""
    batch, frames = grid.shape[:2]
    size = 0.004 + 0.016 * torch.rand(batch, 1, 1, 1, 1, generator=generator)
    wave = 2 * math.pi * (1 + 3 * torch.rand(batch, 1, 1, 1, 2, generator=generator))
    speed = 2 * math.pi * (torch.rand(batch, 1, 1, 1, 2, generator=generator) - 0.5)
    time = torch.arange(frames).float()[None, :, None, None, None]
    return grid + size * torch.sin(wave * grid.flip(-1) + speed * time)


def with_objects(frames: Tensor, grid: Tensor, textures: Tensor, generator: torch.Generator, largest: float) -> Tensor:
    """Put an object, cut out of another texture, on its own straight way through each scene.

    `frames` `(B, 3, T, n, n)`, `grid` as from `scene_grid`; an object spans up to `largest` frame widths. One in eight
    objects is fixed to the frame instead, like a logo or a dashboard.
    """
    batch, _, time, side = frames.shape[:4]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    speed = uniform(0, 1, batch, 1).square() * 0.1
    heading = uniform(0, 2 * math.pi, batch)
    velocity = speed * torch.stack([heading.cos(), heading.sin()], -1)
    middle = torch.arange(time).float() - (time - 1) / 2
    bob = 0.01 * torch.randn(batch, time, 2, generator=generator) * (uniform(0, 1, batch, 1, 1) < 0.3)
    position = uniform(-0.5, 0.5, batch, 1, 2) + velocity[:, None] * middle[None, :, None] + bob
    line = (torch.arange(side).float() + 0.5) / side - 0.5
    screen = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    fixed = uniform(0, 1, batch) < 0.125
    position = torch.where(fixed[:, None, None], position[:, :1], position)
    seen = torch.where(fixed[:, None, None, None, None], screen, grid)
    local = seen - position[:, :, None, None]
    radius = uniform(0.05, largest / 2, batch, 1, 1, 1, 2)
    power = torch.where(uniform(0, 1, batch, 1, 1, 1, 1) < 0.6, 2.0, 6.0)
    distance = (local / radius).abs().pow(power).sum(-1)  # (B, T, n, n)
    mask = torch.sigmoid((1 - distance) * uniform(4, 12, batch, 1, 1, 1))[:, None]
    cut_out = sample(textures, local, uniform(0.2, 0.6, batch), uniform(-0.4, 0.4, batch, 2))
    return torch.lerp(frames, cut_out, mask)
