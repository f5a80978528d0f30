"""Clips in which nearly nothing happens: a camera that stands still, but for one moment of at most two frames.

All but a few frames look alike, so that whatever drops the wrong ones drops the label. A whip looks aside for a moment,
a punch looks closer or wider, and both come back at once: the frames before and after do not tell them from stillness.
A flash lights one frame. A cut leads to another part of the picture or to another picture, and does not come back.

Units: positions in frame widths, zoom as the logarithm of the field of view. Shapes: B clips, T frames, n pixels a
side, S pixels a texture side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion.swaps import Pair, swapped
from service.training.camera_motion.trajectories import Draw

MOMENT_LABELS = (
    "still",
    "cut",
    "flash",
    "whip_left",
    "whip_right",
    "whip_up",
    "whip_down",
    "punch_in",
    "punch_out",
)
_PLACES, _COARSE = 3, 16
"""So many places of a tile are looked at, at so many pixels a side."""
_INDEX = {label: i for i, label in enumerate(MOMENT_LABELS)}
_SIDEWAYS: Pair = ("whip_left", "whip_right")
_UPRIGHT: Pair = ("whip_up", "whip_down")
MIRRORED = swapped(MOMENT_LABELS, _SIDEWAYS)
"""Class of a clip whose left and right are exchanged."""
FLIPPED = swapped(MOMENT_LABELS, _UPRIGHT)
"""Class of a clip that is upside down by a mirror."""
TRANSPOSED = swapped(MOMENT_LABELS, ("whip_left", "whip_up"), ("whip_right", "whip_down"))
"""Class of a clip whose rows and columns are exchanged."""


class MomentsBatch(NamedTuple):
    """Generated clips."""

    clips: Tensor
    """uint8 `(B, T, n, n, 3)` RGB."""
    labels: Tensor
    """int64 `(B,)` of `MOMENT_LABELS`."""
    cut: Tensor
    """int64 `(B,)`: the last slot before a cut, -1 where there is none."""
    telling: Tensor
    """bool `(B, T)`: the frames that tell the label: of the moment, the two beside a cut, none if all is still."""


@dataclass(frozen=True, kw_only=True)
class MomentsConfig:
    """What is generated."""

    frames: int = 16
    side: int = 48
    travel: tuple[float, float] = (0.1, 0.22)
    """How far a whip looks aside, frame widths."""
    zoom: tuple[float, float] = (0.22, 0.45)
    """How much a punch changes the logarithm of the field of view."""
    flash: tuple[float, float] = (0.2, 0.6)
    """How much light a flash adds; 1 is white."""
    tremor: tuple[float, float] = (0.001, 0.007)
    """Root mean square of a hand's tremor, frame widths."""
    noise: float = 0.03
    """Largest standard deviation of a sensor's noise; 1 is white."""


class Moments:
    """Clips over tiles, uint8 `(N, 3, S, S)`; as random as its seed."""

    def __init__(self, bank: Tensor, config: MomentsConfig, seed: int) -> None:
        self._bank, self._config = bank, config
        self._generator = torch.Generator().manual_seed(seed)
        self._draw = Draw(self._generator)

    def batch(self, labels: Tensor) -> MomentsBatch:
        """One random clip of each class in `labels`, int64 `(B,)`."""
        config, draw, batch = self._config, self._draw, len(labels)
        first = torch.randint(1, config.frames - 2, (batch,), generator=self._generator)
        cut = torch.where(labels == _INDEX["cut"], first, torch.full_like(first, -1))
        away = self._away(labels, first)
        lit = torch.zeros(batch, config.frames).scatter_(1, first[:, None], draw.uniform(*config.flash, batch, 1))
        lit = lit * (labels == _INDEX["flash"])[:, None]
        clips = self._shots(*self._camera(labels, away), cut)
        clips = clips * draw.uniform(0.7, 1.2, batch, 1, 1, 1, 1) + lit[:, None, :, None, None]
        size = config.noise * draw.uniform(0, 1, batch, 1, 1, 1, 1).square()
        clips = clips + size * draw.normal(*clips.shape)
        pixels = clips.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 4, 1).contiguous()
        slot = torch.arange(config.frames)
        beside = (cut >= 0)[:, None] & ((slot == cut[:, None]) | (slot == cut[:, None] + 1))
        return MomentsBatch(pixels, labels, cut, (away > 0) | (lit > 0) | beside)

    def _away(self, labels: Tensor, first: Tensor) -> Tensor:
        """How far of the whole way whips and punches are in each frame, `(B, T)`: one frame, or two of which one is
        nearer."""
        draw, batch = self._draw, len(labels)
        two = draw.chance(0.5, batch)
        nearer, early = draw.uniform(0.4, 1, batch), draw.chance(0.5, batch)
        whole = torch.ones(batch)
        begin = torch.where(two & early, nearer, whole)
        then = torch.where(two, torch.where(early, whole, nearer), torch.zeros(()))
        away = torch.zeros(batch, self._config.frames)
        away.scatter_(1, torch.stack([first, first + 1], 1), torch.stack([begin, then], 1))
        return away * (labels >= _INDEX["whip_left"])[:, None]

    def _camera(self, labels: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
        """Center `(B, T, 2)` and log view `(B, T)`."""
        config, draw, batch = self._config, self._draw, len(labels)

        def signed(pair: tuple[str, str], limits: tuple[float, float]) -> Tensor:
            sign = (labels == _INDEX[pair[1]]).float() - (labels == _INDEX[pair[0]]).float()
            return sign[:, None] * draw.uniform(*limits, batch, 1) * away

        x, y = signed(_SIDEWAYS, config.travel), signed(_UPRIGHT, config.travel)
        log_view = signed(("punch_in", "punch_out"), config.zoom)
        hand = draw.uniform(*config.tremor, batch, 1, 1) * draw.chance(0.8, batch, 1, 1).float()
        return torch.stack([x, y], -1) + hand * draw.normal(batch, config.frames, 2), log_view

    def _shots(self, center: Tensor, log_view: Tensor, cut: Tensor) -> Tensor:
        """What the camera sees, `(B, 3, T, n, n)` of 0 .. 1; behind a cut another part, or another picture."""
        batch = len(cut)
        tiles = self._tiles(batch)
        clips = self._seen(tiles, center, log_view)
        rows = (cut >= 0).nonzero().flatten()
        if len(rows):
            other = self._draw.chance(0.5, len(rows)).view(-1, 1, 1, 1)
            second = torch.where(other, self._tiles(len(rows)), tiles[rows])
            behind = torch.arange(self._config.frames) > cut[rows, None]
            seen = self._seen(second, center[rows], log_view[rows])
            clips[rows] = torch.where(behind[:, None, :, None, None], seen, clips[rows])
        return clips

    def _tiles(self, count: int) -> Tensor:
        chosen = torch.randint(0, len(self._bank), (count,), generator=self._generator)
        # Smaller where a pixel of the clip would otherwise skip pixels of the tile.
        return F.avg_pool2d(self._bank[chosen].float(), max(1, self._bank.size(-1) // (3 * self._config.side)))

    def _seen(self, tiles: Tensor, center: Tensor, log_view: Tensor) -> Tensor:
        """Tiles `(B, 3, S, S)` of 0 .. 255 through the camera: `(B, 3, T, n, n)` of 0 .. 1.

        Of several places the one is shown that has most to see: over a blank wall there is no telling where a camera
        goes.
        """
        draw, batch, side = self._draw, len(tiles), self._config.side
        views = draw.log_uniform(0.3, 0.6, _PLACES, batch)
        places = draw.uniform(-1, 1, _PLACES, batch, 2) * (1 - views[..., None])
        tried = 2 * views.view(-1, 1, 1, 1) * _raster(_COARSE) + places.view(-1, 1, 1, 2)
        found = F.grid_sample(tiles.repeat(_PLACES, 1, 1, 1), tried, padding_mode="reflection", align_corners=False)
        best = _edges(found).view(_PLACES, batch).argmax(0)
        every = torch.arange(batch)
        view, place = views[best, every], places[best, every]
        at = log_view.exp()[:, :, None, None, None] * _raster(side) + center[:, :, None, None]
        grid = 2 * view.view(-1, 1, 1, 1, 1) * at + place[:, None, None, None]
        flat = F.grid_sample(tiles, grid.flatten(1, 2), padding_mode="reflection", align_corners=False)
        return flat.view(batch, 3, -1, side, side) / 255


def _raster(side: int) -> Tensor:
    """Where each pixel's middle lies in the frame, `(n, n, 2)` of -0.5 .. 0.5."""
    line = (torch.arange(side).float() + 0.5) / side - 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def _edges(pictures: Tensor) -> Tensor:
    """How much brightness changes from pixel to pixel, along the direction in which it changes less: `(B,)`."""
    gray = pictures.mean(1)
    return torch.minimum(gray.diff(dim=1).abs().mean((1, 2)), gray.diff(dim=2).abs().mean((1, 2)))


def randomly_turned(
    clips: Tensor, labels: Tensor, cut: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Each clip by its own random choice of the sixteen symmetries of a square in time; labels and cuts follow.

    What comes back at once is the same backwards. Clips `(B, T, n, n, 3)`, labels and cuts `(B,)` lie on one device.
    """
    frames, device = clips.size(1), clips.device
    for dims, table in (((3,), MIRRORED), ((2,), FLIPPED), (None, TRANSPOSED), ((1,), None)):
        chosen = (torch.rand(len(labels), generator=generator) < 0.5).to(device)
        pick = chosen.view(-1, 1, 1, 1, 1)
        clips = torch.where(pick, clips.transpose(2, 3) if dims is None else clips.flip(dims), clips)
        if table is None:
            cut = torch.where(chosen & (cut >= 0), frames - 2 - cut, cut)
        else:
            labels = torch.where(chosen, table.to(device)[labels], labels)
    return clips, labels, cut
