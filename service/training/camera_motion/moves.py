"""How cameras move in real footage: several motions at once, held by hand or not, and what is then to be said of it.

Units: the long side of the frame is 1; zoom is the logarithm of the field of view, angles are in radians; time in
sampled frames. Shapes: B clips, T frames, K scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from service.model.presets import CAMERA_MOVE_LABELS
from service.training.camera_motion.trajectories import Draw, Paths, progress, turned

MOVE_LABELS = CAMERA_MOVE_LABELS
INDEX = {label: i for i, label in enumerate(MOVE_LABELS)}
DIRECTED = ("pan_right", "pan_left", "tilt_down", "tilt_up", "zoom_in", "zoom_out", "roll_cw", "roll_ccw")
"""Positive and negative sense of each component of `steps`."""
SLOWEST, FASTEST = 0.0022, 0.09
"""Directed motion at the frame's border, per sampled frame."""
_LIGHT = 0.12
"""A fade that changes less of the light is none."""


@dataclass(frozen=True)
class Moves:
    """Paths of a batch and the transitions between its shots."""

    paths: Paths
    second: Paths
    """What the camera does in the shot after a cut or a dissolve."""
    mix: Tensor
    """`(B, T)` share of the second shot in each frame: 0 and 1 only where there is no dissolve."""
    flash: Tensor
    """`(B, T)` light that is added to a frame, 0 nearly everywhere."""

    def part(self, rows: Tensor) -> Moves:
        """Those rows of the batch."""
        return Moves(self.paths.part(rows), self.second.part(rows), self.mix[rows], self.flash[rows])


def sample_moves(batch: int, frames: int, generator: torch.Generator) -> Moves:
    """Random moves: still cameras, single and combined motions, tremor of any strength, cuts, dissolves and fades."""
    draw = Draw(generator)
    kind = torch.multinomial(torch.tensor([0.30, 0.38, 0.13, 0.10, 0.09]), batch, replacement=True, generator=generator)
    count = torch.where(kind == 1, 1, torch.where(kind == 2, torch.randint(2, 4, (batch,), generator=generator), 0))
    paths = _path(draw, count, kind == 3, frames)
    transition = torch.multinomial(
        torch.tensor([0.42, 0.33, 0.25]), batch, replacement=True, generator=generator
    )  # cut, dissolve, fade
    busy = kind == 4
    moving = draw.chance(0.45, batch).long()
    calm = _path(draw, moving, torch.zeros(batch, dtype=torch.bool), frames, fastest=0.03)
    paths = _where(busy, calm, paths)
    other = _path(draw, draw.chance(0.45, batch).long(), torch.zeros(batch, dtype=torch.bool), frames, fastest=0.03)
    slot = torch.randint(0, frames - 1, (batch,), generator=generator)
    cut = torch.where(busy & (transition == 0), slot, torch.full_like(slot, -1))
    time = torch.arange(frames).float()[None]
    mix = (time > cut[:, None]).float() * (cut >= 0)[:, None]
    mix = torch.where((busy & (transition == 1))[:, None], _dissolve(draw, batch, frames), mix)
    light = torch.where((busy & (transition == 2))[:, None], _fade(draw, batch, frames), torch.ones(()))
    flash = torch.zeros(batch, frames)
    flashing = (draw.chance(0.03, batch) & ~busy).nonzero().flatten()
    flash[flashing, slot[flashing]] = draw.uniform(0.3, 1.0, len(flashing))
    return Moves(replace(paths, cut=cut, light=light), replace(other, cut=cut, light=light), mix, flash)


def _where(rows: Tensor, one: Paths, other: Paths) -> Paths:
    def chosen(name: str) -> Tensor:
        a, b = getattr(one, name), getattr(other, name)
        return torch.where(rows.view(-1, *[1] * (a.dim() - 1)), a, b)

    return Paths(*(chosen(name) for name in Paths.__dataclass_fields__))


def _dissolve(draw: Draw, batch: int, frames: int) -> Tensor:
    length = draw.uniform(2.5, 1.5 * frames, batch, 1)
    start = draw.uniform(-0.3, 0.8, batch, 1) * (frames - 1 - 0.5 * length).clamp(min=1.0)
    return ((torch.arange(frames).float() - start) / length).clamp(0, 1)


def _fade(draw: Draw, batch: int, frames: int) -> Tensor:
    light = 1 - _dissolve(draw, batch, frames) * draw.uniform(0.85, 1.0, batch, 1)
    return torch.where(draw.chance(0.5, batch, 1), light.flip(1), light)


def _path(draw: Draw, count: Tensor, wild: Tensor, frames: int, fastest: float = FASTEST) -> Paths:
    """Cameras with `count` `(B,)` directed motions at once; `wild` ones are shaken."""
    batch = len(count)
    run = progress(draw, batch, frames, shown_times(draw, batch, frames))
    # Some moves begin or end within the window.
    begin = draw.uniform(0, 0.45, batch, 1) * (frames - 1) * draw.chance(0.2, batch, 1).float()
    run = (run - begin).clamp(min=0) * (frames - 1) / (frames - 1 - begin)
    run = torch.where(draw.chance(0.5, batch, 1), run, (frames - 1) - run.flip(1))
    order = torch.rand(batch, 4, generator=draw.generator)
    order = order * torch.tensor([1.35, 1.0, 1.0, 0.75])  # rolls are the rarest, and pans the most frequent
    rank = order.argsort(1, descending=True).argsort(1)
    chosen = (rank < count[:, None]).float()
    speed = draw.log_uniform(SLOWEST, fastest, batch, 1)
    # Of several motions the smaller ones are not much smaller; beside a single one the others are impurities.
    share = torch.where(rank == 0, torch.ones(()), draw.uniform(0.4, 1.0, batch, 4))
    impure = draw.uniform(0, 0.22, batch, 4) * draw.chance(0.5, batch, 1).float() * (count > 0)[:, None]
    sign = torch.where(draw.chance(0.5, batch, 4), 1.0, -1.0)
    size = speed * sign * (chosen * share + (1 - chosen) * impure)  # (B, 4) at the border
    drift = draw.log_uniform(0.0001, 0.002, batch, 1) * draw.chance(0.3, batch, 1).float() * (count == 0)[:, None]
    size = size + drift * sign * draw.uniform(0, 1, batch, 4)
    center = size[:, None, :2] * run[..., None]
    log_view, angle = -2 * size[:, 2:3] * run, 2 * size[:, 3:4] * run
    pivot = draw.uniform(-0.15, 0.15, batch, 2) * (chosen[:, 2:].sum(1, keepdim=True) > 0)
    pivot = pivot[:, None].expand(-1, frames, -1)
    center = center + pivot - turned(pivot, log_view, angle)
    hand = hand_tremor(draw, batch, frames)
    held = draw.chance(0.55, batch)
    strength = draw.log_uniform(0.0004, 0.006, batch) * held
    # Who moves a camera by hand also shakes it more the faster he goes.
    strength = strength + speed[:, 0] * (count > 0) * draw.uniform(0, 0.25, batch) * held
    strength = torch.where(wild, draw.log_uniform(0.009, 0.05, batch), strength)
    rest = draw.uniform(0, 0.00008, batch)  # what an encoder does to a tripod's picture
    center = center + (strength + rest)[:, None, None] * hand[..., :2]
    log_view = log_view + (strength * draw.uniform(0, 0.5, batch))[:, None] * hand[..., 2]
    angle = angle + (strength * draw.uniform(0, 1.0, batch))[:, None] * hand[..., 3]
    return Paths(center, log_view, angle, torch.full((batch,), -1), torch.ones(batch, frames))


def shown_times(draw: Draw, batch: int, frames: int) -> Tensor:
    """When sampled frames were taken, `(B, T)`: each is the last one shown by then of 10 to 60 a second."""
    rates = torch.tensor([10.0, 12.5, 15.0, 24.0, 25.0, 30.0, 30.0, 60.0]) / 7.5  # frames of the video a sampled one
    rate = rates[torch.randint(0, len(rates), (batch, 1), generator=draw.generator)]
    times = torch.arange(frames).float()[None] + draw.uniform(0, 1, batch, 1)
    shown = ((times * rate).floor() + draw.uniform(-0.1, 0.1, batch, frames)) / rate
    return shown - shown[:, :1]


def hand_tremor(draw: Draw, batch: int, frames: int) -> Tensor:
    """`(B, T, 4)` of unit root mean square: positions that fall with the square of the frequency above a corner.

    A hand sways at under 2 Hz and trembles by far less at 8 to 12 Hz, which frames 133 ms apart turn into white noise.
    """
    memory = draw.uniform(0.1, 0.9, batch, 1, 1)
    noise = draw.normal(batch, frames, 4)
    sway = [noise[:, :1]]
    for t in range(1, frames):
        sway.append(memory * sway[-1] + (1 - memory**2).sqrt() * noise[:, t : t + 1])
    white = draw.uniform(0, 0.5, batch, 1, 1) * draw.normal(batch, frames, 4)
    time = torch.arange(frames).float()[None, :, None]
    phase = 2 * math.pi * (draw.uniform(0, 1, batch, 1, 4) + draw.uniform(0.08, 0.45, batch, 1, 4) * time)
    swing = torch.where(draw.chance(0.25, batch, 1, 1), math.sqrt(2) * phase.sin(), torch.cat(sway, 1)) + white
    swing = swing * draw.uniform(0.3, 1.0, batch, 1, 4)  # seldom alike in all directions
    swing = swing - swing.mean(1, keepdim=True)
    return swing / (swing[..., :2].square().mean((1, 2), keepdim=True).sqrt() + 0.05)


def steps(paths: Paths) -> Tensor:
    """`(B, T-1, 4)` motion from frame to frame: right, down, inwards and clockwise, at the frame's border."""
    c, s = paths.angle[:, :-1].cos(), paths.angle[:, :-1].sin()
    moved = paths.center.diff(dim=1) * (-paths.log_view[:, :-1]).exp()[..., None]
    # As the camera sees it, that may have turned.
    right = c * moved[..., 0] + s * moved[..., 1]
    down = c * moved[..., 1] - s * moved[..., 0]
    return torch.stack([right, down, -paths.log_view.diff(dim=1) / 2, paths.angle.diff(dim=1) / 2], -1)


def ramp(value: Tensor, none: float | Tensor, full: float | Tensor) -> Tensor:
    """0 up to `none`, 1 from `full`, and in between along the logarithm."""
    low, high = (torch.as_tensor(bound).clamp(min=1e-9).log() for bound in (none, full))
    return ((value.clamp(min=1e-9).log() - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


def targets_of(moves: Moves) -> Tensor:
    """`(B, K)`: what of `MOVE_LABELS` holds of each clip, measured from its paths; between yes and no at the limits."""
    motion = motion_targets(moves.paths)
    second = motion_targets(moves.second)
    share = moves.mix.mean(1, keepdim=True)
    motion = torch.where(share > 0, torch.where(share > 0.5, second, motion) * (2 * (share - 0.5).abs()), motion)
    targets = torch.zeros(len(motion), len(MOVE_LABELS))
    targets[:, [INDEX[label] for label in (*DIRECTED, "shake", "handheld")]] = motion[:, :10]
    cut = moves.paths.cut >= 0
    change = moves.mix.amax(1) - moves.mix.amin(1)
    targets[:, INDEX["cut"]] = cut.float()
    targets[:, INDEX["dissolve"]] = ramp(change, 0.15, 0.45) * ~cut
    light = moves.paths.light
    targets[:, INDEX["fade"]] = ramp(light.amax(1) - light.amin(1), _LIGHT, 3 * _LIGHT)
    busy = targets[:, [INDEX[name] for name in (*DIRECTED, "shake", "cut", "fade", "dissolve")]].amax(1)
    targets[:, INDEX["static"]] = torch.minimum(1 - busy, motion[:, 10])
    return targets


def motion_targets(paths: Paths) -> Tensor:
    """`(B, 11)`: the directed motions, shake, handheld, and whether it may pass for a camera that stands still."""
    step = steps(paths)  # (B, T-1, 4)
    mean = step.mean(1)
    size = mean.abs()
    rest = step - mean[:, None]
    deviation = rest.square().mean(1).sqrt()
    time = torch.linspace(-1, 1, step.size(1))[None, :, None]
    slope = (rest * time).sum(1, keepdim=True) / time.square().sum()
    jitter = rest - slope * time  # a move that speeds up does not tremble
    tremor = jitter[..., :2].square().sum(-1).mean(1).sqrt()
    tremor = torch.maximum(tremor, jitter[..., 2:].abs().square().sum(-1).mean(1).sqrt())
    largest = size.amax(1, keepdim=True)
    holds = torch.minimum(
        ramp(size, (0.35 * deviation).clamp(min=0.0008), (0.8 * deviation).clamp(min=0.0018)),
        ramp(size, 0.2 * largest, 0.5 * largest),
    )
    both = torch.stack([holds * (mean > 0), holds * (mean < 0)], -1).flatten(1)  # (B, 8) in the order of DIRECTED
    shake = torch.minimum(ramp(tremor, 0.007, 0.014), ramp(tremor / largest[:, 0].clamp(min=1e-6), 0.5, 1.2))
    handheld = ramp(torch.maximum(tremor, 0.5 * largest[:, 0] * (largest[:, 0] < 0.0018)), 0.0008, 0.0022)
    still = torch.minimum(1 - ramp(tremor, 0.0025, 0.006), 1 - ramp(largest[:, 0], 0.0009, 0.0022))
    return torch.cat([both, torch.stack([shake, handheld, still], 1)], 1)
