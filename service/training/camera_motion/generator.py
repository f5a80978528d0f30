"""Labeled batches of generated clips."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion import degrade, render
from service.training.camera_motion.trajectories import INDEX, Paths, Speeds, sample_paths

_EASY = Speeds(translation=(0.03, 0.1), zoom=(0.035, 0.1), roll=(0.05, 0.14), shake=(0.02, 0.06))
_WEIGHTS = {"static": 1.4, "shake": 1.1, "cut": 0.9, "fade": 0.7}


class Batch(NamedTuple):
    """Generated clips."""

    clips: Tensor
    """uint8 `(B, T, n, n, 3)` RGB."""
    labels: Tensor
    """int64 `(B,)`, classes of `LABELS`."""
    cut: Tensor
    """int64 `(B,)`: the last slot before a cut, -1 where there is none."""
    flow: Tensor
    """float32 `(B, T, g, g, 4)`: the camera's motion at each cell, as `render.camera_flow` has it; NaN across cuts."""


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What is generated. `speeds` are those of the full difficulty."""

    frames: int = 8
    side: int = 48
    cells: int = 6
    """Cells on a side of the raster on which the camera's motion is told."""
    speeds: Speeds = field(default_factory=Speeds)
    degradation: bool = True

    def at(self, difficulty: float) -> Speeds:
        """Speeds between large, easy motions (0) and all of them (1)."""

        def between(name: str) -> tuple[float, float]:
            easy, full = getattr(_EASY, name), getattr(self.speeds, name)
            return tuple(e * (f / e) ** difficulty for e, f in zip(easy, full, strict=True))

        return Speeds(**{name: between(name) for name in ("translation", "zoom", "roll", "shake")})


class CameraMotion:
    """Clips of a virtual camera over the tiles of a texture bank, uint8 `(N, 3, S, S)`; as random as its seed."""

    def __init__(self, bank: Tensor, config: GeneratorConfig, seed: int) -> None:
        self.bank = bank
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)

    def draw_labels(self, batch: int) -> Tensor:
        """Random classes, the harder ones more often."""
        weights = torch.tensor([_WEIGHTS.get(label, 1.0) for label in LABELS])
        return torch.multinomial(weights, batch, replacement=True, generator=self.generator)

    def batch(self, labels: Tensor, difficulty: float = 1.0) -> Batch:
        """Clips of the given classes, int64 `(B,)`.

        A quarter is rendered with motion blur; another quarter at twice the size, encoded and decoded, and reduced.
        Below full difficulty some batches are clean: without objects, degradation and codec.
        """
        config = self.config
        if float(torch.rand((), generator=self.generator)) > difficulty:
            config = replace(config, degradation=False)
        paths = sample_paths(labels, config.frames, config.at(difficulty), self.generator)
        self._degraded = config.degradation
        quarter = len(labels) // 4 if config.degradation else 0
        parts = []
        for first, last, kind in (
            (0, quarter, "encoded"),
            (quarter, 2 * quarter, "blurred"),
            (2 * quarter, len(labels), "plain"),
        ):
            if last > first:
                part = Paths(*(getattr(paths, name)[first:last] for name in Paths.__dataclass_fields__))
                parts.append(self._clips(part, labels[first:last], kind))
        clips = torch.cat(parts).clamp(0, 1).mul(255).round().byte()
        order = torch.randperm(len(labels), generator=self.generator)
        clips = clips.permute(0, 2, 3, 4, 1)[order].contiguous()
        return Batch(clips, labels[order], paths.cut[order], self._flow(paths)[order])

    def _flow(self, paths: Paths) -> Tensor:
        slot = torch.arange(self.config.frames)[None]
        cut = paths.cut[:, None]
        flow = render.camera_flow(paths, self.config.cells)
        after = ((cut >= 0) & (slot > cut))[..., None, None, None]
        flow = torch.where(after, render.camera_flow(_second_shot(paths), self.config.cells), flow)
        flow[..., :2][(cut >= 0) & (slot == cut)] = torch.nan
        flow[..., 2:][(cut >= 0) & (slot == cut + 1)] = torch.nan
        return flow

    def _clips(self, paths: Paths, labels: Tensor, kind: str) -> Tensor:
        generator, batch = self.generator, len(labels)
        side = self.config.side * (2 if kind == "encoded" else 1)
        clips = self._shots(paths, labels, side)
        if kind == "blurred":
            clips = (clips + self._again(paths, labels, side)) / 2
        if self._degraded:
            clips = degrade.graded(clips, generator)
        clips = degrade.faded(clips, paths.light, generator)
        if not self._degraded:
            return clips
        clips = degrade.framed(degrade.noisy(degrade.blurred(clips, generator), generator), generator)
        clips = degrade.stuttering(clips, (paths.cut < 0), generator)
        if kind == "encoded":
            clips = degrade.encoded(clips, generator)
            frames = clips.transpose(1, 2).reshape(batch * self.config.frames, 3, side, side)
            frames = F.interpolate(frames, size=(side // 2, side // 2), mode="area")
            clips = frames.view(batch, self.config.frames, 3, side // 2, side // 2).transpose(1, 2)
        return clips

    def _again(self, paths: Paths, labels: Tensor, side: int) -> Tensor:
        # The same scene a third of a frame later: the mean of both is the blur of an open shutter.
        ahead = {}
        for name in ("center", "log_view", "angle"):
            path = getattr(paths, name)
            step = torch.diff(path, dim=1, append=2 * path[:, -1:] - path[:, -2:-1])
            ahead[name] = path + step / 3
        self.generator.set_state(self._before)
        return self._shots(replace(paths, **ahead), labels, side)

    def _shots(self, paths: Paths, labels: Tensor, side: int) -> Tensor:
        self._before = self.generator.get_state()
        clips = self._shot(paths, labels, side)
        cut = (paths.cut >= 0).nonzero().flatten()
        if len(cut):
            other = Paths(*(getattr(paths, name)[cut] for name in Paths.__dataclass_fields__))
            second = self._shot(_second_shot(other), labels[cut], side)
            after = torch.arange(self.config.frames)[None] > other.cut[:, None]
            clips[cut] = torch.where(after[:, None, :, None, None], second, clips[cut])
        return clips

    def _shot(self, paths: Paths, labels: Tensor, side: int) -> Tensor:
        generator, batch = self.generator, len(labels)

        def chance(p: float | Tensor) -> Tensor:
            return (torch.rand(batch, generator=generator) < p).nonzero().flatten()

        def tiles(count: int) -> Tensor:
            chosen = torch.randint(0, len(self.bank), (count,), generator=generator)
            return self.bank[chosen].float().div(255)

        textures = tiles(batch)
        grid = render.scene_grid(paths, side)
        moving = chance(0.15)
        grid[moving] = render.rippled(grid[moving], generator)
        share = self.config.side / textures.size(-1)
        view = share * (0.8 + 0.9 * torch.rand(batch, generator=generator))
        offset = (2 * torch.rand(batch, 2, generator=generator) - 1) * (1 - view[:, None])
        clips = render.sample(textures, grid, view, offset)
        if not self._degraded:
            return clips
        static = labels == INDEX["static"]
        for largest, often in ((0.6, 0.4), (0.35, 0.35)):
            some = chance(torch.where(static, 0.65, often))
            if len(some):
                clips[some] = render.with_objects(clips[some], grid[some], tiles(len(some)), generator, largest)
        return clips


def _second_shot(paths: Paths) -> Paths:
    # What comes after a cut moves otherwise than what was before it.
    return replace(paths, center=-paths.center.flip(1), angle=-paths.angle)
