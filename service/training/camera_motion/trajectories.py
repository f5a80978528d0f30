"""How the camera moves: per class a random path, frame by frame, for a whole batch at once.

Units: positions and translations in frame widths, zoom as the logarithm of the field of view, angles in radians;
time in sampled frames. Shapes: B clips, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from service.model.presets import CAMERA_MOTION_LABELS as LABELS

INDEX = {label: i for i, label in enumerate(LABELS)}
MOTIONS = 9
"""The first classes, `static` and the eight directed motions, are also what a shot does before or after a cut."""


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Slowest and fastest directed motion, per sampled frame."""

    translation: tuple[float, float] = (0.012, 0.12)
    zoom: tuple[float, float] = (0.014, 0.11)
    roll: tuple[float, float] = (math.radians(1.2), math.radians(9))
    shake: tuple[float, float] = (0.008, 0.06)
    """Root mean square of the shaken position."""


@dataclass(frozen=True)
class Paths:
    """Camera of a batch: where it looks and what it does to the light."""

    center: Tensor
    """`(B, T, 2)` x to the right and y down, frame widths."""
    log_view: Tensor
    """`(B, T)` logarithm of the field of view: falling is zooming in."""
    angle: Tensor
    """`(B, T)` clockwise, radians."""
    cut: Tensor
    """`(B,)` int64: a new shot begins after this slot; -1 where there is no cut."""
    light: Tensor
    """`(B, T)` 1 for the full picture, 0 for the faded one."""

    def part(self, rows: Tensor) -> Paths:
        """Those rows of the batch."""
        return Paths(self.center[rows], self.log_view[rows], self.angle[rows], self.cut[rows], self.light[rows])


class Draw:
    """Random numbers of one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def chance(self, p: float | Tensor, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < p


def progress(draw: Draw, batch: int, frames: int, times: Tensor | None = None) -> Tensor:
    """Distance traveled until each frame at a mean speed of 1, `(B, T)`: steady, speeding up, slowing down, eased.

    Samples are not exactly equidistant, since a video's own frames rarely are where the sampler wants them: `times`
    `(B, T)`, in sampled frames, says where they are.
    """
    if times is None:
        times = torch.arange(frames).float() + draw.uniform(-0.12, 0.12, batch, frames)
    u = (times / (frames - 1)).clamp(0, 1)
    bend = draw.uniform(-0.45, 0.45, batch, 1) * (~draw.chance(0.4, batch, 1)).float()
    eased = u * u * (3 - 2 * u)
    ease = draw.uniform(0, 0.8, batch, 1) * draw.chance(0.3, batch, 1).float()
    bent = u + bend * u * (1 - u)
    return ((1 - ease) * bent + ease * eased) * (frames - 1)


def directed(draw: Draw, motion: Tensor, frames: int, speeds: Speeds) -> tuple[Tensor, Tensor, Tensor]:
    """Center `(B, T, 2)`, log view and angle `(B, T)` of classes 0 .. 8, with small impurities."""
    batch = len(motion)
    run = progress(draw, batch, frames)
    zero = torch.zeros(batch)

    def velocity(negative: str, positive: str, limits: tuple[float, float]) -> Tensor:
        sign = (motion == INDEX[positive]).float() - (motion == INDEX[negative]).float()
        return sign * draw.log_uniform(*limits, batch)

    vx = velocity("pan_left", "pan_right", speeds.translation)
    vy = velocity("tilt_up", "tilt_down", speeds.translation)
    vz = velocity("zoom_in", "zoom_out", speeds.zoom)
    vr = velocity("roll_ccw", "roll_cw", speeds.roll)
    speed = vx.abs() + vy.abs()
    across = draw.uniform(-0.22, 0.22, batch) * speed
    vx, vy = torch.where(vy != 0, across, vx), torch.where(vx != 0, across, vy)
    vz = vz + draw.uniform(-0.08, 0.08, batch) * speed
    vr = vr + draw.uniform(-0.08, 0.08, batch) * speed
    turning = (vz.abs() + vr.abs()) * (speed == 0)
    vx = vx + torch.where(speed == 0, draw.uniform(-0.1, 0.1, batch) * turning, zero)
    vy = vy + torch.where(speed == 0, draw.uniform(-0.1, 0.1, batch) * turning, zero)

    center = torch.stack([vx, vy], -1)[:, None] * run[..., None]
    log_view, angle = vz[:, None] * run, vr[:, None] * run
    # Zooms and rolls about a point off the middle.
    pivot = draw.uniform(-0.18, 0.18, batch, 2) * (turning > 0).float()[:, None]
    center = center + pivot[:, None] - turned(pivot[:, None].expand(-1, frames, -1), log_view, angle)
    # A hand, or a tripod that is not quite still.
    moving = speed + turning
    tremor = 0.05 * moving + draw.uniform(0, 0.0012, batch) * draw.chance(0.5, batch).float()
    center = center + tremor[:, None, None] * draw.normal(batch, frames, 2)
    angle = angle + 0.5 * tremor[:, None] * draw.normal(batch, frames)
    return center, log_view, angle


def turned(point: Tensor, log_view: Tensor, angle: Tensor) -> Tensor:
    """Points `(..., 2)` of the frame in scene coordinates, for a camera at the origin with that view and angle."""
    c, s, z = angle.cos(), angle.sin(), log_view.exp()
    x, y = point[..., 0], point[..., 1]
    return torch.stack([z * (c * x - s * y), z * (s * x + c * y)], -1)


def turned_back(point: Tensor, log_view: Tensor, angle: Tensor) -> Tensor:
    """The inverse of `turned`: scene points `(..., 2)` as places in the frame."""
    c, s, z = angle.cos(), angle.sin(), (-log_view).exp()
    x, y = point[..., 0], point[..., 1]
    return torch.stack([z * (c * x + s * y), z * (c * y - s * x)], -1)


def shaken(draw: Draw, batch: int, frames: int, speeds: Speeds) -> tuple[Tensor, Tensor, Tensor]:
    """A camera in an unsteady hand, and in part one that jumps to and fro along a path, out of order."""
    rms = draw.log_uniform(*speeds.shake, batch)
    memory = draw.uniform(-0.2, 0.6, batch, 1, 1)
    noise = draw.normal(batch, frames, 4)
    walk = [noise[:, :1]]
    for t in range(1, frames):
        walk.append(memory * walk[-1] + (1 - memory**2).sqrt() * noise[:, t : t + 1])
    random = torch.cat(walk, 1)
    time = torch.arange(frames).float()[None, :, None]
    phase = draw.uniform(0, 2 * math.pi, batch, 1, 4) + 2 * math.pi * draw.uniform(0.15, 0.48, batch, 1, 4) * time
    swing = math.sqrt(2) * phase.sin()
    moved = torch.where(draw.chance(0.35, batch, 1, 1), swing, random)
    moved = moved - moved.mean(1, keepdim=True)
    moved = moved / (moved[..., :2].square().mean((1, 2), keepdim=True).sqrt() + 0.05)
    center = moved[..., :2] * rms[:, None, None] * draw.uniform(0.4, 1.0, batch, 1, 2).clamp(max=1)
    log_view = moved[..., 2] * rms[:, None] * draw.uniform(0, 0.5, batch, 1)
    angle = moved[..., 3] * rms[:, None] * draw.uniform(0, 1.0, batch, 1)
    drift = torch.stack([draw.uniform(-0.3, 0.3, batch), draw.uniform(-0.3, 0.3, batch)], -1) * rms[:, None]
    center = center + drift[:, None] * torch.arange(frames)[None, :, None] * 0.5

    motion = torch.randint(1, MOTIONS, (batch,), generator=draw.generator)
    path = directed(draw, motion, frames, speeds)
    order = torch.stack([_jumbled(draw.generator, frames) for _ in range(batch)])
    jumps = draw.chance(0.3, batch)
    center = torch.where(jumps[:, None, None], path[0].gather(1, order[..., None].expand(-1, -1, 2)), center)
    log_view = torch.where(jumps[:, None], path[1].gather(1, order), log_view)
    angle = torch.where(jumps[:, None], path[2].gather(1, order), angle)
    return center, log_view, angle


def _jumbled(generator: torch.Generator, frames: int) -> Tensor:
    # Orders that mostly ascend or descend would look like the motion itself.
    while True:
        order = torch.randperm(frames, generator=generator)
        rising = int((order.diff() > 0).sum())
        if frames < 5 or 1 < rising < frames - 2:
            return order


def sample_paths(labels: Tensor, frames: int, speeds: Speeds, generator: torch.Generator) -> Paths:
    """Random paths for classes int64 `(B,)` of `LABELS`."""
    draw, batch = Draw(generator), len(labels)
    motion = torch.where(labels < MOTIONS, labels, torch.zeros_like(labels))
    # A cut or a fade may happen while the camera moves, though not fast.
    busy = (labels >= INDEX["cut"]) & draw.chance(0.4, batch)
    motion = torch.where(busy, torch.randint(1, MOTIONS, (batch,), generator=generator), motion)
    center, log_view, angle = directed(draw, motion, frames, speeds)
    calm = torch.where(labels >= INDEX["cut"], draw.uniform(0.05, 0.35, batch), torch.ones(batch))
    center, log_view, angle = center * calm[:, None, None], log_view * calm[:, None], angle * calm[:, None]

    shake = labels == INDEX["shake"]
    wild = shaken(draw, batch, frames, speeds)
    center = torch.where(shake[:, None, None], wild[0], center)
    log_view = torch.where(shake[:, None], wild[1], log_view)
    angle = torch.where(shake[:, None], wild[2], angle)

    still = (labels == INDEX["static"]) & draw.chance(0.4, batch)
    center = torch.where(still[:, None, None], torch.zeros(()), center)
    angle = torch.where(still[:, None], torch.zeros(()), angle)

    cut = torch.randint(0, frames - 1, (batch,), generator=generator)
    cut = torch.where(labels == INDEX["cut"], cut, torch.full_like(cut, -1))

    # A fade of `length` frames that is at least 60 % inside the clip.
    length = draw.uniform(3, 1.6 * frames, batch, 1)
    start = draw.uniform(-0.2, 0.8, batch, 1) * (frames - 1 - 0.6 * length).clamp(min=0.5)
    ramp = ((torch.arange(frames).float() - start) / length).clamp(0, 1)
    ramp = torch.where(draw.chance(0.3, batch, 1), ramp * ramp * (3 - 2 * ramp), ramp)
    light = 1 - ramp * draw.uniform(0.85, 1.0, batch, 1)
    light = torch.where(draw.chance(0.5, batch, 1), light.flip(1), light)
    light = torch.where((labels == INDEX["fade"])[:, None], light, torch.ones(()))
    return Paths(center, log_view, angle, cut, light)
