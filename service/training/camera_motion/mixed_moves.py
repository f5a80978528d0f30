"""Labeled batches of clips that are as hard as real footage: what `moves` says over what `scenes` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from service.contracts import Framing
from service.training.camera_motion import degrade, scenes
from service.training.camera_motion.living import HEIGHT, WIDTH, Living
from service.training.camera_motion.moves import INDEX, MOVE_LABELS, Moves, sample_moves, targets_of
from service.training.camera_motion.real_windows import RealView, RealViews, RealWindows, at_rest
from service.training.camera_motion.scenes import Frame
from service.training.camera_motion.trajectories import Draw, Paths

_ASPECTS = torch.tensor([16 / 9, 16 / 9, 16 / 9, 16 / 9, 4 / 3, 4 / 3, 1.25, 1.85, 2.35, 9 / 16, 1.0])
_CROP_MARGIN = 48 / 54
_NEAR = 0.15
"""Shots with something near before the scene; twice drawn."""
_DOUBLE = 2
"""Rows and columns are rendered so many times as fine, then averaged."""


class MovesBatch(NamedTuple):
    """Generated clips."""

    clips: Tensor
    """uint8 `(B, T, n, n, 3)` RGB."""
    targets: Tensor
    """float32 `(B, K)`, scores of `MOVE_LABELS`, between 0 and 1 where people might disagree."""
    cut: Tensor
    """int64 `(B,)`: the last slot before a cut, -1 where there is none."""
    flow: Tensor
    """float32 `(B, T, g, g, 4)`: the camera's motion at each cell, as `render.camera_flow` has it; NaN if unknown."""
    values: Tensor = torch.empty(0)
    """float32 `(B, T)`, what each frame is worth to the first label; NaN if unknown, empty of clips just rendered."""


@dataclass(frozen=True, kw_only=True)
class MovesConfig:
    """What is generated."""

    frames: int = 8
    side: int = 48
    cells: int = 6
    framing: Framing = "whole"
    real_share: float = 0.4
    """Of the clips, where there are real windows, how many show one."""


class MixedMoves:
    """Clips of a virtual camera over tiles, uint8 `(N, 3, S, S)`, scenes and windows; as random as its seed."""

    def __init__(
        self, bank: Tensor, living: Living | None, config: MovesConfig, seed: int, real: RealWindows | None = None
    ) -> None:
        self.bank, self.living, self.real, self.config = bank, living, real, config
        self.generator = torch.Generator().manual_seed(seed)
        self.draw = Draw(self.generator)

    def batch(self, size: int) -> MovesBatch:
        """`size` random clips; a quarter goes through an encoder."""
        config, draw = self.config, self.draw
        moves = sample_moves(size, config.frames, self.generator)
        frame = self._frames(size)
        views = RealViews.none(size)
        if self.real is not None:
            views = self.real.views(draw, frame, config.real_share)
            moves = at_rest(moves, views, draw)
        world = moves if self.real is None else self.real.carried(moves, views)
        targets, flow = targets_of(world), self._flow(world, frame)
        coded = torch.zeros(size, dtype=torch.bool)
        coded[: size // 4] = True
        clips = torch.empty(size, 3, config.frames, config.side, config.side)
        for rows in (coded.nonzero().flatten(), (~coded).nonzero().flatten()):
            if len(rows):
                clips[rows] = self._clips(moves.part(rows), frame.part(rows), views.part(rows), bool(coded[rows[0]]))
        blank = draw.chance(0.012, size)
        level = torch.where(draw.chance(0.5, size), draw.chance(0.5, size).float(), draw.uniform(0, 1, size))
        grain = 0.01 * draw.normal(*clips.shape) * draw.chance(0.5, size).view(-1, 1, 1, 1, 1)
        clips = torch.where(blank.view(-1, 1, 1, 1, 1), level.view(-1, 1, 1, 1, 1) + grain, clips)
        nothing = torch.zeros(len(MOVE_LABELS))
        nothing[INDEX["static"]] = 1.0
        targets = torch.where(blank[:, None], nothing, targets)
        flow[blank] = torch.nan
        cut = torch.where(blank, torch.full_like(moves.paths.cut, -1), moves.paths.cut)
        pixels = clips.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 4, 1).contiguous()
        return MovesBatch(pixels, targets, cut, flow)

    def _frames(self, size: int) -> Frame:
        aspect = _ASPECTS[torch.randint(0, len(_ASPECTS), (size,), generator=self.generator)]
        half = torch.stack([0.5 * aspect.clamp(max=1), 0.5 / aspect.clamp(min=1)], 1)
        if self.config.framing == "crop":
            half = half.amin(1, keepdim=True).expand(-1, 2) * _CROP_MARGIN
        return Frame(half)

    def _flow(self, moves: Moves, frame: Frame) -> Tensor:
        cells = self.config.cells
        flow = scenes.cell_motion(moves.paths, frame, cells)
        second = scenes.cell_motion(moves.second, frame, cells)
        mix = moves.mix[..., None, None, None]
        flow = torch.where(mix > 0.5, second, flow)
        change = moves.mix.diff(dim=1).abs() > 0.02  # (B, T-1)
        edge = torch.zeros(len(change), 1, dtype=torch.bool)
        flow[..., :2][torch.cat([change, edge], 1)] = torch.nan
        flow[..., 2:][torch.cat([edge, change], 1)] = torch.nan
        return flow

    def _clips(self, moves: Moves, frame: Frame, views: RealViews, coded: bool) -> Tensor:
        config, generator, draw = self.config, self.generator, self.draw
        batch, frames, side = len(moves.mix), config.frames, config.side
        rows = side * (_DOUBLE if coded else 1)
        clips = self._shot(moves.paths, frame, views.first, rows)
        two = (moves.mix.amax(1) > 0).nonzero().flatten()
        if len(two):
            clips[two] = self._joined(clips[two], moves.part(two), frame.part(two), views.part(two), rows)
        # Most footage that is made as small as a clip has good light and hardly any noise left.
        plain = draw.chance(0.5, batch).view(-1, 1, 1, 1, 1)
        clips = torch.where(plain, clips, degrade.graded(clips, generator))
        clips = degrade.faded(clips, moves.paths.light, generator)
        clips = clips + moves.flash[:, None, :, None, None]
        clips = self._text(clips)
        worn = clips if coded else degrade.blurred(clips, generator)
        clips = degrade.framed(torch.where(plain, clips, degrade.noisy(worn, generator)), generator)
        steady = (moves.paths.cut < 0) & (moves.mix.amax(1) == 0)
        clips = degrade.stuttering(clips, steady & draw.chance(0.5, batch), generator)
        if coded:
            clips = degrade.encoded(clips, generator)
            flat = F.avg_pool2d(clips.transpose(1, 2).flatten(0, 1), _DOUBLE)
            clips = flat.view(batch, frames, 3, side, side).transpose(1, 2)
        return clips

    def _joined(self, first: Tensor, moves: Moves, frame: Frame, views: RealViews, rows: int) -> Tensor:
        """Put the second shot after the first: at once, across, or from one side to the other."""
        draw, batch = self.draw, len(first)
        second = self._shot(moves.second, frame, views.second, rows)
        mix = moves.mix[:, None, :, None, None]
        line = (torch.arange(rows).float() + 0.5) / rows
        upright = draw.chance(0.5, batch, 1, 1, 1, 1)
        across = torch.where(upright, line.view(1, 1, 1, -1, 1), line.view(1, 1, 1, 1, -1))
        wiped = ((mix * 1.06 - across) * 30).clamp(0, 1)
        wiped = torch.where(draw.chance(0.25, batch, 1, 1, 1, 1), wiped, mix.expand_as(wiped))
        return torch.lerp(first, second, wiped.expand_as(first))

    def _tiles(self, count: int) -> Tensor:
        chosen = torch.randint(0, len(self.bank), (count,), generator=self.generator)
        return self.bank[chosen].float()

    def _shot(self, paths: Paths, frame: Frame, view: RealView, rows: int) -> Tensor:
        """One shot `(B, 3, T, rows, rows)`."""
        draw, batch = self.draw, len(frame.half)
        wide = self.config.side * _DOUBLE
        readout = draw.uniform(0, 0.2, batch) * draw.chance(0.5, batch)
        grid = scenes.look(paths, frame, rows, wide, readout)
        at_depth = grid.clone()
        deep = (draw.chance(0.4, batch) & ~view.shown).nonzero().flatten()
        if len(deep):
            grid[deep] = scenes.parallax(grid[deep], paths.part(deep), frame.part(deep), draw)
        clips = self._background(grid, view)
        for largest, often in ((0.95, 0.35), (0.4, 0.3), (0.2, 0.2)):
            # Real windows have subjects of their own.
            some = draw.chance(torch.where(view.shown, 0.3 * often, often), batch).nonzero().flatten()
            if len(some):
                clips[some] = self._with_subjects(clips[some], grid[some], frame.part(some), largest)
        for _ in range(2):
            some = (draw.chance(_NEAR, batch) & ~view.shown).nonzero().flatten()
            if len(some):
                clips[some] = self._with_near_things(clips[some], at_depth[some], paths.part(some), frame.part(some))
        some = (draw.chance(0.3, batch) & ~view.shown).nonzero().flatten()
        if len(some) and self.living is not None:
            clips[some] = self._with_people(clips[some], grid[some], frame.part(some), self.living)
        flat = clips.transpose(1, 2).flatten(0, 1)
        flat = F.avg_pool2d(flat, (1, wide // rows)) if wide != rows else flat
        return flat.view(batch, -1, 3, rows, rows).transpose(1, 2)

    def _background(self, grid: Tensor, real: RealView) -> Tensor:
        draw, batch = self.draw, len(grid)
        clips = torch.empty(batch, 3, *grid.shape[1:4])
        shown = real.shown.nonzero().flatten()
        if len(shown) and self.real is not None:
            clips[shown] = self.real.seen(grid[shown], real.part(shown))
        alive = draw.chance(0.35, batch) & (self.living is not None) & ~real.shown
        still = (~alive & ~real.shown).nonzero().flatten()
        open_shutter = draw.chance(0.3, len(still)).float() * draw.uniform(0.1, 0.6, len(still))
        if len(still):
            at = grid[still]
            step = torch.diff(at, dim=1, append=2 * at[:, -1:] - at[:, -2:-1])
            view, offset = self._part(at)
            textures = self._tiles(len(still))
            found = scenes.seen(textures, at, view, offset)
            blurred = open_shutter.nonzero().flatten()
            if len(blurred):
                later = at[blurred] + open_shutter[blurred].view(-1, 1, 1, 1, 1) * step[blurred]
                again = scenes.seen(textures[blurred], later, view[blurred], offset[blurred])
                found[blurred] = (found[blurred] + again) / 2
            clips[still] = found
        rest = alive.nonzero().flatten()
        if len(rest) and self.living is not None:
            chosen = torch.randint(0, len(self.living.frames), (len(rest),), generator=self.generator)
            close = draw.chance(0.6, len(rest))
            view = torch.where(close, draw.uniform(0.25, 0.45, len(rest)), draw.uniform(0.4, 0.8, len(rest)))
            busiest = self.living.busiest[chosen] + draw.uniform(-0.2, 0.2, len(rest), 2)
            anywhere = draw.uniform(-1, 1, len(rest), 2) * (1 - view[:, None])
            offset = torch.where(close[:, None], busiest, anywhere)
            living = self.living.frames[chosen].float()
            forth = draw.chance(0.5, len(rest)).view(-1, 1, 1, 1, 1)
            living = torch.where(forth, living, living.flip(1))
            clips[rest] = scenes.seen(living, grid[rest], view, offset)
        return clips

    def _part(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """How much of a picture's width a long side covers, `(B,)`, and around what, `(B, 2)` in -1 .. 1.

        Half of the clips see most of a picture, as composed, and never its border; the others look closely at a part.
        """
        draw, batch = self.draw, len(grid)
        close = draw.log_uniform(0.25, 0.65, batch)
        anywhere = draw.uniform(-1, 1, batch, 2) * (1 - close[:, None])
        first, last = grid.amin((1, 2, 3)), grid.amax((1, 2, 3))
        whole = draw.uniform(0.6, 0.98, batch) / (last - first).amax(1)
        low, high = -1 - 2 * whole[:, None] * first, 1 - 2 * whole[:, None] * last
        inside = low + (high - low) * draw.uniform(0, 1, batch, 2)
        composed = draw.chance(0.6, batch)
        return torch.where(composed, whole, close), torch.where(composed[:, None], inside, anywhere)

    def _with_people(self, clips: Tensor, grid: Tensor, frame: Frame, living: Living) -> Tensor:
        """Put what moves in real scenes before the clips, up to the size of the frame; some go with the camera."""
        draw, batch = self.draw, len(clips)
        fixed = draw.chance(0.4, batch).view(-1, 1, 1, 1, 1)
        on = torch.where(fixed, scenes.screen(frame, *grid.shape[2:4])[:, None], grid)
        place = draw.uniform(-0.8, 0.8, batch, 2) * frame.half
        local = on - place[:, None, None, None]
        chosen = torch.randint(0, len(living.frames), (batch,), generator=self.generator)
        view = draw.log_uniform(0.12, 0.5, batch)
        people, masks = living.cut_out(chosen)
        shade = draw.uniform(0.7, 1.3, batch, 1, 1, 1, 1)
        cut_out = shade * scenes.seen(people, local, view, living.busiest[chosen])
        # The scene is mirrored at its borders; what it shows there is nobody.
        at = 2 * view.view(-1, 1, 1, 1, 1) * local * torch.tensor([1.0, WIDTH / HEIGHT])
        there = (at + living.busiest[chosen][:, None, None, None]).abs().amax(-1) < 1
        mask = scenes.seen(masks, local, view, living.busiest[chosen]) * there[:, None]
        return torch.lerp(clips, cut_out, mask)

    def _with_subjects(self, clips: Tensor, grid: Tensor, frame: Frame, largest: float) -> Tensor:
        fixed = self.draw.chance(0.25, len(clips))
        return self._before(clips, *scenes.subject_masks(grid, fixed, frame, self.draw, largest))

    def _with_near_things(self, clips: Tensor, grid: Tensor, paths: Paths, frame: Frame) -> Tensor:
        """Put what hardly moves before the scene: as the camera travels, it slides through the frame faster."""
        on = scenes.nearer(grid, paths, frame, self.draw)
        fixed = torch.zeros(len(clips), dtype=torch.bool)
        return self._before(clips, *scenes.subject_masks(on, fixed, frame, self.draw, 0.7, fastest=0.002))

    def _before(self, clips: Tensor, local: Tensor, mask: Tensor) -> Tensor:
        draw, batch = self.draw, len(clips)
        view, offset = draw.uniform(0.15, 0.45, batch), draw.uniform(-0.6, 0.6, batch, 2)
        cut_out = scenes.seen(self._tiles(batch), local, view, offset)
        shade = draw.uniform(0.6, 1.3, batch, 1, 1, 1, 1)
        return torch.lerp(clips, cut_out * shade, mask)

    def _text(self, clips: Tensor) -> Tensor:
        """Write a line of letters, the same in all frames, into one clip in ten."""
        draw = self.draw
        chosen = draw.chance(0.1, len(clips)).nonzero().flatten()
        if not len(chosen):
            return clips
        rows, columns = clips.shape[-2:]
        ink = draw.chance(0.5, len(chosen), 1, 4, 28).float() * draw.chance(0.85, len(chosen), 1, 1, 28).float()
        line = F.interpolate(ink, size=(max(2, rows // 12), columns), mode="nearest")
        page = torch.zeros(len(chosen), 1, 1, rows, columns)
        for i in range(len(chosen)):
            top = int(draw.uniform(0, rows - line.size(2))) if draw.chance(0.4) else rows - line.size(2) - 2
            left, right = sorted(int(x) for x in draw.uniform(0, columns, 2))
            page[i, 0, 0, top : top + line.size(2), left:right] = line[i, 0, :, left:right]
        light = torch.where(draw.chance(0.7, len(chosen)), 1.0, 0.0).view(-1, 1, 1, 1, 1)
        clips[chosen] = torch.lerp(clips[chosen], light.expand_as(clips[chosen]), 0.9 * page)
        return clips
