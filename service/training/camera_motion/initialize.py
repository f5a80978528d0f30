"""A start from which motion is quickly learnt: the first layer begins as a bank of motion-energy detectors.

With the usual small random weights attention begins uniform: every token sees the mean of all frames, averaged again
over all places, and nothing in it tells where or in which order something moved. Here, only by setting initial
weights, patches begin as cosine transforms, and positions as sinusoids in channels of their own; the first layer's
heads fetch the same place from the frame before and the frame after into channels of their own, and its MLP begins
with units that answer to a wave of one orientation, length and phase moving at one speed, whose four phases are summed
(motion energy, Adelson and Bergen 1985). Everything is trained from there. The vanilla transformer begins alike: its
heads fetch the same from both neighbors by time and place at once.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.attention import SeparateProjectionAttention
from service.model.config import NetworkConfig, SequenceConfig, VidTrConfig
from service.model.factory import Network
from service.model.joint_attention import JointAttention
from service.model.layers import EncoderLayer
from service.model.sequence import SequenceVidTr

_TIME, _PLACE, _WAVE, _REST = 12, 16, 30, 6
"""Channels for time, place, brightness waves, and the mean and colors. Then the waves of both neighbors follow."""
_CONTENT = _TIME + _PLACE
_FETCHED = _CONTENT + _WAVE + _REST
_LOUDNESS = 1.0
_TEMPORAL_GAIN, _SPATIAL_GAIN = 1.6, 2.0
_JOINT_LOUDNESS, _JOINT_TEMPORAL_GAIN, _JOINT_SPATIAL_GAIN = 4.0, 0.75, 1.25
"""Joint attention gets positions beside normalized tokens: louder than the tokens' own mean in those channels."""
_FRAMES = 8
"""Gains along time are for so many frames: positions of more lie closer together, and are told apart by more."""
_JOINT_TIMES, _JOINT_PLACES = 4, 2
"""Pairs of channels for time, and for x and y each, that a head of joint attention has room for."""
_OFFSETS = (-1, -1, 1, 1, -2, 2, 0)
"""How many frames ahead each head looks."""
_ORIENTATIONS = 6
_CYCLES = (0.55, 0.9, 1.5)
"""Lengths of the waves detected, in cycles a patch."""
_STEPS = (math.pi / 2, math.pi / 4)
"""Phase that a wave advances in one frame."""


@torch.no_grad()
def initialize_for_motion(network: Network, seed: int) -> None:
    """Set the weights of a fresh network with 8 heads and 128 channels: of VidTr or C-VidTr with `qkv="separate"` and
    both class tokens, or of the vanilla transformer.

    Raises ValueError where the network has another form.
    """
    config = network.config
    if isinstance(config, SequenceConfig) and config.separable_layers:
        raise ValueError("this start is made for vanilla transformers, not for separable layers before joint ones")
    if isinstance(config, VidTrConfig) and (config.qkv != "separate" or config.class_tokens != "both"):
        raise ValueError("this start is made for separate projections and both class tokens")
    if config.heads != 8 or config.dim != 128:
        raise ValueError(f"this start is made for 8 heads and dim 128, not for {config.heads} and {config.dim}")
    energies = 2 * _ORIENTATIONS * len(_CYCLES) * len(_STEPS)
    if config.mlp_dim < 4 * energies:
        raise ValueError(f"this start needs mlp_dim >= {4 * energies}, not {config.mlp_dim}")
    generator = torch.Generator().manual_seed(seed)
    basis = _patch_basis(config.patch)  # (d - 28, 3 p p)
    network.conv_stem.weight.zero_()
    network.conv_stem.weight[_CONTENT : _CONTENT + len(basis)] = basis.view(-1, 3, 1, config.patch, config.patch)
    if isinstance(network, SequenceVidTr):
        table = 0.02 * torch.randn(config.frames, config.locations, config.dim, generator=generator)
        network.pos_embedding[:, 1:] = _JOINT_LOUDNESS * _with_positions(table, config).flatten(0, 1)
        _fetch_neighbors_jointly(cast(JointAttention, network.encoder.layers[0].self_attn), config, generator)
    else:
        grid = network.config
        table = 0.02 * torch.randn(grid.rows, grid.columns, grid.dim, generator=generator)
        network.pos_embedding.copy_(_with_positions(table, grid).flatten(0, 1)[None])
        _fetch_neighbors(cast(SeparateProjectionAttention, network.encoder.layers[0].self_attn), grid, generator)
    first = cast(EncoderLayer, network.encoder.layers[0])
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


def _with_positions(table: Tensor, config: NetworkConfig) -> Tensor:
    """`(R, P, d)` with time in the first channels, x and y in the next; class rows have no time, class columns no
    place."""
    down, across = config.height // config.patch, config.width // config.patch
    table[-config.frames :, :, :_TIME] = _LOUDNESS * _circle(config.frames, _TIME // 2, config.frames)[:, None]
    half = _PLACE // 2
    x = _circle(across, half // 2, across).repeat(down, 1)
    y = _circle(down, half // 2, down).repeat_interleave(across, 0)
    table[:, -config.locations :, _TIME : _TIME + half] = _LOUDNESS * x
    table[:, -config.locations :, _TIME + half : _TIME + _PLACE] = _LOUDNESS * y
    return table


def _look_aside(query: Tensor, key: Tensor, row: int, pairs: int, offset: int, gain: float, frames: int) -> None:
    """Make a head, whose rows begin at `row`, ask for the frame that is `offset` ahead."""
    for j in range(pairs):
        turn = math.pi * (j + 1) / frames * offset
        cos, sin = math.cos(turn), math.sin(turn)
        to, of = slice(row + 2 * j, row + 2 * j + 2), slice(2 * j, 2 * j + 2)
        query[to, of] = gain * frames / _FRAMES * torch.tensor([[cos, -sin], [sin, cos]])
        key[to, of] = gain * frames / _FRAMES * torch.eye(2)


def _carry_content(value: Tensor, head: int, c: int) -> None:
    """Make a head carry its part of the brightness waves."""
    start = _CONTENT + (c if head in (1, 3) else 0)
    length = min(c, _CONTENT + _WAVE - start)
    value[head * c : head * c + length, start : start + length] = torch.eye(length)


def _into_own_channels(out: Tensor, c: int) -> None:
    """Write what both neighbors' waves are into the channels that follow a token's own."""
    for side, head in enumerate((0, 2)):
        for k in range(_WAVE):
            row = _FETCHED + side * _WAVE + k
            out[row] = 0.0
            out[row, head * c + k] = 1.0


def _fetch_neighbors_jointly(a: JointAttention, config: NetworkConfig, generator: torch.Generator) -> None:
    """As `_fetch_neighbors`, where a head must tell the same place from others as well; 6 and 7 are free."""
    dim, c = config.dim, config.dim // config.heads
    query, key, value = (0.3 * _orthogonal(dim, dim, generator) for _ in range(3))
    for head, offset in enumerate(_OFFSETS[:6]):
        rows = slice(head * c, (head + 1) * c)
        query[rows], key[rows], value[rows] = 0.0, 0.0, 0.0
        _look_aside(query, key, head * c, _JOINT_TIMES, offset, _JOINT_TEMPORAL_GAIN, config.frames)
        for axis in range(2):
            pairs = 2 * _JOINT_PLACES
            to, of = head * c + 2 * _JOINT_TIMES + axis * pairs, _TIME + axis * _PLACE // 2
            for weight in (query, key):
                weight[to : to + pairs, of : of + pairs] = _JOINT_SPATIAL_GAIN * torch.eye(pairs)
        _carry_content(value, head, c)
    a.in_proj_weight.copy_(torch.cat([query, key, value]))
    out = 0.05 * _orthogonal(dim, dim, generator)
    _into_own_channels(out, c)
    a.out_proj.weight.copy_(out)


def _fetch_neighbors(a: SeparateProjectionAttention, config: VidTrConfig, generator: torch.Generator) -> None:
    """Heads 0 and 1 look one frame back, 2 and 3 one ahead, 4 and 5 two, 6 carries positions, 7 is free."""
    dim, c = config.dim, config.dim // config.heads
    query, key, value = (0.3 * _orthogonal(dim, dim, generator) for _ in range(3))
    for head, offset in enumerate(_OFFSETS):
        rows = slice(head * c, (head + 1) * c)
        query[rows], key[rows], value[rows] = 0.0, 0.0, 0.0
        _look_aside(query, key, head * c, _TIME // 2, offset, _TEMPORAL_GAIN, config.frames)
        if head < 6:
            _carry_content(value, head, c)
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
    _into_own_channels(out, c)
    a.out_proj.weight.copy_(out)


def _detect_motion(into: nn.Linear, out: nn.Linear, config: NetworkConfig, generator: torch.Generator) -> None:
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
