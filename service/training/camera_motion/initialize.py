"""A start from which motion is quickly learnt: the first layer begins as a bank of motion-energy detectors.

With the usual small random weights attention begins uniform: every token sees the mean of all frames, averaged again
over all places, and nothing in it tells where or in which order something moved. Here, only by setting initial
weights, patches begin as cosine transforms, and positions as sinusoids in channels of their own; the first layer's
heads fetch the same place from the frame before and the frame after into channels of their own, and its MLP begins
with units that answer to a wave of one orientation, length and phase moving at one speed, whose four phases are summed
(motion energy, Adelson and Bergen 1985). Everything is trained from there.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.attention import SeparateProjectionAttention
from service.model.config import VidTrConfig
from service.model.vidtr import GridLayer, VidTr

_TIME, _PLACE, _WAVE, _REST = 12, 16, 30, 6
"""Channels for time, place, brightness waves, and the mean and colors. Then the waves of both neighbors follow."""
_CONTENT = _TIME + _PLACE
_FETCHED = _CONTENT + _WAVE + _REST
_LOUDNESS = 1.0
_TEMPORAL_GAIN, _SPATIAL_GAIN = 1.6, 2.0
_ORIENTATIONS = 6
_CYCLES = (0.55, 0.9, 1.5)
"""Lengths of the waves detected, in cycles a patch."""
_STEPS = (math.pi / 2, math.pi / 4)
"""Phase that a wave advances in one frame."""


@torch.no_grad()
def initialize_for_motion(network: VidTr, seed: int) -> None:
    """Set the weights of a fresh network with `qkv="separate"`, both class tokens, 8 heads and 128 channels.

    Raises ValueError where the network has another form.
    """
    config = network.config
    if config.qkv != "separate" or config.class_tokens != "both" or config.heads != 8 or config.dim != 128:
        raise ValueError("this start is made for separate projections, both class tokens, 8 heads and dim 128")
    energies = 2 * _ORIENTATIONS * len(_CYCLES) * len(_STEPS)
    if config.mlp_dim < 4 * energies:
        raise ValueError(f"this start needs mlp_dim >= {4 * energies}, not {config.mlp_dim}")
    generator = torch.Generator().manual_seed(seed)
    basis = _patch_basis(config.patch)  # (d - 28, 3 p p)
    network.conv_stem.weight.zero_()
    network.conv_stem.weight[_CONTENT : _CONTENT + len(basis)] = basis.view(-1, 3, 1, config.patch, config.patch)
    network.pos_embedding.copy_(_positions(config, generator)[None])
    first = cast(GridLayer, network.encoder.layers[0])
    _fetch_neighbors(cast(SeparateProjectionAttention, first.self_attn), config, generator)
    _detect_motion(first.linear1, first.linear2, config, generator)


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)


def _components(patch: int) -> tuple[list[tuple[int, int]], Tensor]:
    """The lowest frequencies `(u, v)`, but for the mean, and the gain of each: nature's spectra fall as 1 / f."""
    order = sorted(((u, v) for u in range(patch) for v in range(patch)), key=lambda c: (c[0] ** 2 + c[1] ** 2, c))
    chosen = order[1 : _WAVE + 1]
    return chosen, torch.tensor([math.hypot(u, v) for u, v in chosen]).sqrt()


def _cosines(patch: int) -> Tensor:
    """Orthonormal cosine waves `(p, p)`, one in each row."""
    n = torch.arange(patch).float() + 0.5
    wave = torch.cos(math.pi * torch.arange(patch)[:, None] * n / patch)
    return F.normalize(wave, dim=1)


def _patch_basis(patch: int) -> Tensor:
    """Cosine components of a patch, `(36, 3 * p * p)`: 30 of brightness, its mean, and 5 of color."""
    wave = _cosines(patch)
    order, gains = _components(patch)
    colors = torch.tensor([[1.0, 1, 1], [1, -1, 0], [0.5, 0.5, -1]])
    gray, red, blue = colors / colors.norm(dim=1, keepdim=True)

    def component(color: Tensor, u: int, v: int, gain: float) -> Tensor:
        return (color[:, None, None] * gain * torch.outer(wave[u], wave[v])).flatten()

    rows = [component(gray, u, v, 0.9 * float(g)) for (u, v), g in zip(order, gains, strict=True)]
    rows.append(component(gray, 0, 0, 0.1))
    rows += [component(color, u, v, 0.4) for color in (red, blue) for u, v in ((0, 0), (0, 1))]
    rows.append(component(red, 1, 0, 0.4))
    return torch.stack(rows)


def _circle(count: int, pairs: int, period: float) -> Tensor:
    """Sinusoids `(count, 2 * pairs)` whose products peak where two positions agree."""
    angle = math.pi * torch.arange(1, pairs + 1).float() / period * torch.arange(count).float()[:, None]
    return torch.stack([angle.cos(), angle.sin()], -1).flatten(1)


def _positions(config: VidTrConfig, generator: torch.Generator) -> Tensor:
    """`((T+1) * (S+1), d)`: time in the first channels, x and y in the next; class rows and columns have none."""
    down, across = config.height // config.patch, config.width // config.patch
    table = 0.02 * torch.randn(config.rows, config.columns, config.dim, generator=generator)
    table[1:, :, :_TIME] = _LOUDNESS * _circle(config.frames, _TIME // 2, config.frames)[:, None]
    half = _PLACE // 2
    x = _circle(across, half // 2, across).repeat(down, 1)
    y = _circle(down, half // 2, down).repeat_interleave(across, 0)
    table[:, 1:, _TIME : _TIME + half] = _LOUDNESS * x
    table[:, 1:, _TIME + half : _TIME + _PLACE] = _LOUDNESS * y
    return table.flatten(0, 1)


def _fetch_neighbors(a: SeparateProjectionAttention, config: VidTrConfig, generator: torch.Generator) -> None:
    """Heads 0 and 1 look one frame back, 2 and 3 one ahead, 4 and 5 two, 6 carries positions, 7 is free."""
    dim, c = config.dim, config.dim // config.heads
    query, key, value = (0.3 * _orthogonal(dim, dim, generator) for _ in range(3))
    omega = math.pi * torch.arange(1, _TIME // 2 + 1).float() / config.frames
    for head, offset in enumerate((-1, -1, 1, 1, -2, 2, 0)):
        rows = slice(head * c, (head + 1) * c)
        query[rows], key[rows], value[rows] = 0.0, 0.0, 0.0
        for j, w in enumerate(omega.tolist()):
            cos, sin = math.cos(w * offset), math.sin(w * offset)
            pair = slice(head * c + 2 * j, head * c + 2 * j + 2)
            query[pair, 2 * j : 2 * j + 2] = _TEMPORAL_GAIN * torch.tensor([[cos, -sin], [sin, cos]])
            key[pair, 2 * j : 2 * j + 2] = _TEMPORAL_GAIN * torch.eye(2)
        start = _CONTENT + (c if head in (1, 3) else 0)
        length = min(c, _CONTENT + _WAVE - start)
        if head < 6:
            value[head * c : head * c + length, start : start + length] = torch.eye(length)
    places = slice(6 * c, 6 * c + _PLACE)
    value[places, _TIME : _TIME + _PLACE] = torch.eye(_PLACE)
    a.temporal_proj.weight.copy_(torch.cat([query, key, value]))

    query, key, value = 0.15 * _orthogonal(dim, dim, generator), 0.15 * _orthogonal(dim, dim, generator), torch.eye(dim)
    for head in range(6):
        rows = slice(head * c, head * c + _PLACE)
        for weight in (query, key):
            weight[rows] = 0.0
            weight[rows, places] = _SPATIAL_GAIN * torch.eye(_PLACE)
    a.spatial_proj.weight.copy_(torch.cat([query, key, value]))
    out = 0.05 * _orthogonal(dim, dim, generator)
    for side, head in enumerate((0, 2)):
        for k in range(_WAVE):
            row = _FETCHED + side * _WAVE + k
            out[row] = 0.0
            out[row, head * c + k] = 1.0
    a.out_proj.weight.copy_(out)


def _detect_motion(into: nn.Linear, out: nn.Linear, config: VidTrConfig, generator: torch.Generator) -> None:
    """Each energy is four units, a quarter of a wave apart, that answer to one wave moving at one speed."""
    order, gains = _components(config.patch)
    wave = _cosines(config.patch)
    line = (torch.arange(config.patch).float() + 0.5) / config.patch - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")

    def seen(turn: float, cycles: float, phase: float) -> Tensor:
        across = x * math.cos(turn) + y * math.sin(turn)
        picture = torch.cos(2 * math.pi * cycles * across - phase)
        inner = torch.stack([(torch.outer(wave[u], wave[v]) * picture).sum() for u, v in order])
        return F.normalize(inner / gains, dim=0)

    unit = 0
    turns = [math.pi * k / _ORIENTATIONS for k in range(2 * _ORIENTATIONS)]
    for turn, cycles, step in itertools.product(turns, _CYCLES, _STEPS):
        direction = torch.randn(config.dim, generator=generator) / math.sqrt(config.dim)
        for quarter in range(4):
            phase = quarter * math.pi / 2
            into.weight[unit] = 0.0
            into.weight[unit, _FETCHED : _FETCHED + _WAVE] = seen(turn, cycles, phase - step)
            into.weight[unit, _CONTENT : _CONTENT + _WAVE] = seen(turn, cycles, phase)
            into.weight[unit, _FETCHED + _WAVE : _FETCHED + 2 * _WAVE] = seen(turn, cycles, phase + step)
            out.weight[:, unit] = 0.5 * direction
            unit += 1
