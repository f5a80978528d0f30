"""What a camera of real footage looks at: depth, large subjects that move by themselves, living backgrounds, overlays.

Coordinates are scene coordinates: the long side of the frame is 1. Shapes: B clips, T frames, h x w pixels of a
rendered frame, S pixels a texture side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion.trajectories import Draw, Paths, turned, turned_back


@dataclass(frozen=True)
class Frame:
    """Half the width and height `(B, 2)` of what each clip's pixels show, in long sides."""

    half: Tensor

    def part(self, rows: Tensor) -> Frame:
        """Those rows of the batch."""
        return Frame(self.half[rows])


def screen(frame: Frame, height: int, width: int) -> Tensor:
    """Where each pixel's middle lies in the frame, `(B, h, w, 2)`."""
    y, x = ((torch.arange(n).float() + 0.5) / n * 2 - 1 for n in (height, width))
    raster = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # (h, w, 2)
    return raster * frame.half[:, None, None]


def look(paths: Paths, frame: Frame, height: int, width: int, readout: Tensor) -> Tensor:
    """Where each pixel looks, `(B, T, h, w, 2)`.

    `readout` `(B,)` is how long a rolling shutter takes from the first row to the last, in sampled frames.
    """
    pixel = screen(frame, height, width)[:, None]
    late = readout[:, None, None] * (torch.arange(height).float() / height - 0.5)  # (B, 1, h)
    center, log_view, angle = (_step(getattr(paths, name)) for name in ("center", "log_view", "angle"))

    def at(values: Tensor, speed: Tensor) -> Tensor:
        return values[:, :, None] + late * speed[:, :, None]  # (B, T, h)

    seen = turned(pixel, at(paths.log_view, log_view)[..., None], at(paths.angle, angle)[..., None])
    moved = torch.stack([at(paths.center[..., i], center[..., i]) for i in (0, 1)], -1)
    return seen + moved[..., None, :]


def _step(path: Tensor) -> Tensor:
    return torch.diff(path, dim=1, append=2 * path[:, -1:] - path[:, -2:-1])


def cell_motion(paths: Paths, frame: Frame, cells: int) -> Tensor:
    """As `render.camera_flow`, in shares of the frame's own width and height: `(B, T, g, g, 4)`."""
    cell = screen(frame, cells, cells)[:, None]  # (B, 1, g, g, 2)
    log_view, angle = paths.log_view[..., None, None], paths.angle[..., None, None]
    center = paths.center[:, :, None, None]
    scene = turned(cell, log_view, angle) + center
    nowhere = torch.full_like(scene[:, :1], torch.nan)

    def seen(scene: Tensor, frames: slice) -> Tensor:
        return turned_back(scene - center[:, frames], log_view[:, frames], angle[:, frames]) - cell

    ahead = torch.cat([seen(scene[:, :-1], slice(1, None)), nowhere], 1)
    back = torch.cat([nowhere, seen(scene[:, 1:], slice(None, -1))], 1)
    size = 2 * frame.half[:, None, None, None]
    return torch.cat([ahead / size, back / size], -1)


def parallax(grid: Tensor, paths: Paths, frame: Frame, draw: Draw) -> Tensor:
    """Give scenes depth: what is nearer moves more as the camera travels; `(B, T, h, w, 2)` to the same.

    Half of the scenes are a smooth field of one to four hills a frame, whose nearest points move up to half as far
    again. The others have a ground before a horizon, or walls to both sides: their nearest points move up to three
    times as far, and less where the camera travels so far that the scene would fold.
    """
    batch, _, height, width, _ = grid.shape
    out = screen(frame, height, width)[:, None]
    travel = _travel(out, paths)
    longest = travel.abs().amax((1, 2, 3, 4))
    hills = draw.chance(0.5, batch).view(-1, 1, 1, 1, 1)
    near = torch.where(hills, _hills(height, width, batch, draw), _planes(out, frame, longest, draw))
    return grid + near * travel


def nearer(grid: Tensor, paths: Paths, frame: Frame, draw: Draw) -> Tensor:
    """Where the camera sees what stands before the scene: it moves 1.3 to 4 times as far through the frame."""
    batch, _, height, width, _ = grid.shape
    return grid + draw.log_uniform(0.3, 3.0, batch, 1, 1, 1, 1) * _travel(screen(frame, height, width)[:, None], paths)


def _travel(out: Tensor, paths: Paths) -> Tensor:
    """How far each pixel at `out` `(B, 1, h, w, 2)` is from where it is in the middle of the clip."""
    traveled = paths.center - paths.center.mean(1, keepdim=True)
    nearing = paths.log_view - paths.log_view.mean(1, keepdim=True)
    return traveled[:, :, None, None] + nearing[..., None, None, None] * out


def _hills(height: int, width: int, batch: int, draw: Draw) -> Tensor:
    """How much nearer than the middle of the scene each pixel is, `(B, 1, h, w, 1)`."""
    depth = F.interpolate(draw.normal(batch, 1, 4, 5), size=(height, width), mode="bicubic", align_corners=True)[:, 0]
    strength = draw.uniform(0.1, 0.5, batch, 1, 1, 1, 1)
    return (depth.tanh()[:, None, ..., None] * strength).clamp(min=-0.7)


def _planes(out: Tensor, frame: Frame, longest: Tensor, draw: Draw) -> Tensor:
    """The same of a ground that begins at a horizon, or of walls that begin beside the middle.

    `out` `(B, 1, h, w, 2)` is where each pixel lies in the frame, and `longest` `(B,)` how far the camera travels.
    """
    batch = len(out)
    begin = draw.uniform(-0.5, 0.4, batch)
    across, down = (out / frame.half[:, None, None, None]).unbind(-1)  # -1 .. 1 from border to border
    start = begin.view(-1, 1, 1, 1)
    ground = (down - start) / (1 - start)
    wall = (across.abs() - start.abs()) / (1 - start.abs())
    standing = draw.chance(0.3, batch)
    plane = torch.where(standing.view(-1, 1, 1, 1), wall, ground).clamp(min=0)
    length = torch.where(standing, (1 - begin.abs()) * frame.half[:, 0], (1 - begin) * frame.half[:, 1])
    strength = torch.minimum(draw.uniform(0.3, 2.0, batch), 0.6 * length / longest.clamp(min=1e-3))
    return (strength.view(-1, 1, 1, 1) * plane)[..., None]


def seen(textures: Tensor, grid: Tensor, view: Tensor, offset: Tensor) -> Tensor:
    """Textures `(B, 3, S, S)`, or living scenes `(B, T, 3, S, S')`, of 0 .. 255 at scene coordinates.

    Returns `(B, 3, T, h, w)` of 0 .. 1.

    A long side covers the share `view` `(B,)` of the texture's width, around `offset` `(B, 2)` in -1 .. 1.
    """
    batch, frames, height, width = grid.shape[:4]
    at = 2 * view[:, None, None, None, None] * grid
    if textures.dim() == 5:
        at = at * torch.tensor([1.0, textures.size(-1) / textures.size(-2)])
        at = (at + offset[:, None, None, None]).flatten(0, 1)
        found = F.grid_sample(textures.flatten(0, 1), at, padding_mode="reflection", align_corners=False)
        return found.view(batch, frames, 3, height, width).transpose(1, 2) / 255
    flat = (at + offset[:, None, None, None]).reshape(batch, frames * height, width, 2)
    found = F.grid_sample(textures, flat, padding_mode="reflection", align_corners=False)
    return found.view(batch, 3, frames, height, width) / 255


def subject_masks(
    grid: Tensor, fixed: Tensor, frame: Frame, draw: Draw, largest: float, fastest: float = 0.09
) -> tuple[Tensor, Tensor]:
    """Subjects that go their own way.

    Returns where each pixel lies on its subject `(B, T, h, w, 2)`, and masks `(B, 1, T, h, w)`.
    `fixed` `(B,)` subjects move with the camera, which follows them, though not perfectly; the others in the scene.
    Their outline is a rounded box with bays, up to `largest` long sides wide; they oscillate, turn, swell, drift
    through the frame, or shift once and stay.
    """
    batch, frames, height, width, _ = grid.shape
    time = torch.arange(frames).float()
    middle = (time - (frames - 1) / 2)[None, :, None]
    heading = draw.uniform(0, 2 * math.pi, batch)
    speed = draw.log_uniform(0.0005, fastest, batch, 1)
    velocity = (speed * torch.stack([heading.cos(), heading.sin()], -1))[:, None]  # (B, 1, 2)
    kind = torch.randint(0, 5, (batch, 1, 1), generator=draw.generator)
    phase = 2 * math.pi * (draw.uniform(0, 1, batch, 1, 1) + draw.uniform(0.04, 0.5, batch, 1, 1) * time[None, :, None])
    when = draw.uniform(1, frames - 2, batch, 1, 1)
    shift = torch.sigmoid((time[None, :, None] - when) * draw.uniform(0.8, 4, batch, 1, 1)) - 0.5
    way = torch.where(kind == 0, middle * velocity, torch.zeros(()))
    way = torch.where(kind == 1, phase.sin() * velocity * 2, way)
    way = torch.where(kind == 2, shift * velocity * frames, way)
    way = way + 0.3 * speed[..., None] * draw.normal(batch, frames, 2).cumsum(1) * draw.chance(0.5, batch, 1, 1)
    start = draw.uniform(-0.9, 0.9, batch, 1, 2) * frame.half[:, None] * draw.uniform(0.1, 1, batch, 1, 1)
    place = (start + way)[:, :, None, None]
    on = torch.where(fixed.view(-1, 1, 1, 1, 1), screen(frame, height, width)[:, None], grid)
    local = on - place
    swell = torch.where(kind == 3, phase.sin() * speed[..., None] * 4, torch.zeros(()))[..., 0]
    turn = torch.where(kind == 4, phase.sin() * speed[..., None] * 6, torch.zeros(()))[..., 0]
    turn = turn + middle[..., 0] * speed * draw.uniform(-3, 3, batch, 1) * draw.chance(0.25, batch, 1)
    local = turned(local, -swell[..., None, None], turn[..., None, None])
    radius = draw.log_uniform(0.05, largest / 2, batch, 1, 1, 1, 2)
    power = torch.where(draw.chance(0.6, batch, 1, 1, 1, 1), 2.0, 6.0)
    unit = local / radius
    around = torch.atan2(unit[..., 1], unit[..., 0])
    lobes = torch.randint(2, 6, (batch, 1, 1, 1), generator=draw.generator)
    beat = draw.uniform(-0.5, 0.5, batch, 1, 1, 1) * time.view(1, -1, 1, 1) * draw.chance(0.4, batch, 1, 1, 1)
    bays = 1 + draw.uniform(0, 0.45, batch, 1, 1, 1) * torch.sin(lobes * around + 2 * math.pi * beat)
    distance = unit.abs().pow(power).sum(-1) / bays
    mask = torch.sigmoid((1 - distance) * draw.uniform(4, 14, batch, 1, 1, 1))
    return local, mask[:, None]
