"""A start from which motion is quickly learnt: attention that looks at neighbouring frames at the same place.

With the usual small random weights attention begins uniform: every token sees the mean of all frames, averaged again
over all places, and nothing in it tells where or in which order something moved. Here, only by setting initial
weights, patches begin as cosine transforms, positions as sinusoids in channels of their own, each temporal head looks
one or two frames back or ahead, and most spatial heads at their own place. Everything is trained from there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from service.model.attention import SeparateProjectionAttention
from service.model.config import VidTrConfig
from service.model.vidtr import VidTr

_TIME, _PLACE = 12, 16
_OFFSETS = (-1, -1, 1, 1, -2, 2, 0, 0)
_POSITIONS_HEAD = 6
_LOUDNESS = 0.6
_TEMPORAL_GAIN, _SPATIAL_GAIN = 1.9, 2.0


@torch.no_grad()
def initialise_for_motion(network: VidTr, seed: int) -> None:
    """Set the weights of a fresh network with `qkv="separate"`, 8 heads of 16 channels or more, and both class tokens.

    Raises ValueError where the network has another form.
    """
    config = network.config
    if config.qkv != "separate" or config.class_tokens != "both" or config.heads != 8 or config.dim < 128:
        raise ValueError("this start is made for separate projections, both class tokens, 8 heads and dim >= 128")
    generator = torch.Generator().manual_seed(seed)
    basis = _patch_basis(config.patch)
    content = len(basis)
    first = _TIME + _PLACE
    network.conv_stem.weight.zero_()
    network.conv_stem.weight[first : first + content] = basis.view(content, 3, 1, config.patch, config.patch)
    network.pos_embedding.copy_(_positions(config)[None])
    for layer_index, layer in enumerate(network.encoder.layers):
        attention = layer.self_attn
        if not isinstance(attention, SeparateProjectionAttention):
            raise ValueError("this start is made for separate projections")
        _set_temporal(attention, config, layer_index, generator)
        _set_spatial(attention, config, layer_index, generator)
        attention.out_proj.weight.copy_(0.7 * _orthogonal(config.dim, config.dim, generator))


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)


def _patch_basis(patch: int) -> Tensor:
    """Cosine components of a patch, `(48, 3 * p * p)`: 40 of brightness and 4 of each colour difference.

    Scaled against the fall of natural pictures' spectra, so that all components begin about equally large.
    """
    n = torch.arange(patch).float() + 0.5
    wave = torch.cos(math.pi * torch.arange(patch)[:, None] * n / patch)
    wave = wave / wave.norm(dim=1, keepdim=True)
    order = sorted((u * u + v * v, u, v) for u in range(patch) for v in range(patch))
    colours = torch.tensor([[1.0, 1, 1], [1, -1, 0], [0.5, 0.5, -1]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    rows = []
    for colour, count in zip(colours, (40, 4, 4), strict=True):
        for square, u, v in order[:count]:
            gain = 0.08 if square == 0 else 0.9 * math.sqrt(square)
            component = gain * torch.outer(wave[u], wave[v])
            rows.append((colour[:, None, None] * component).flatten())
    return torch.stack(rows)


def _circle(count: int, pairs: int, period: float) -> Tensor:
    """Sinusoids `(count, 2 * pairs)` whose products peak where two positions agree."""
    angle = math.pi * torch.arange(1, pairs + 1).float() / period * torch.arange(count).float()[:, None]
    return torch.stack([angle.cos(), angle.sin()], -1).flatten(1)


def _positions(config: VidTrConfig) -> Tensor:
    """`((T+1) * (S+1), d)`: time in the first channels, x and y in the next; class rows and columns have none."""
    down, across = config.height // config.patch, config.width // config.patch
    table = 0.02 * torch.randn(config.rows, config.columns, config.dim, generator=torch.Generator().manual_seed(0))
    table[1:, :, :_TIME] = _LOUDNESS * _circle(config.frames, _TIME // 2, config.frames)[:, None]
    half = _PLACE // 2
    x = _circle(across, half // 2, across).repeat(down, 1)
    y = _circle(down, half // 2, down).repeat_interleave(across, 0)
    table[:, 1:, _TIME : _TIME + half] = _LOUDNESS * x
    table[:, 1:, _TIME + half : _TIME + _PLACE] = _LOUDNESS * y
    return table.flatten(0, 1)


def _set_temporal(a: SeparateProjectionAttention, config: VidTrConfig, layer: int, generator: torch.Generator) -> None:
    dim, c = config.dim, config.dim // config.heads
    query, key, value = (0.3 * _orthogonal(dim, dim, generator) for _ in range(3))
    gain = _TEMPORAL_GAIN * (c / 16) ** 0.25 * (1.0 if layer == 0 else 0.75)
    omega = math.pi * torch.arange(1, _TIME // 2 + 1).float() / config.frames
    for head, offset in enumerate(_OFFSETS):
        rows = slice(head * c, head * c + _TIME)
        query[rows], key[rows] = 0.0, 0.0
        for j, w in enumerate(omega.tolist()):
            cos, sin = math.cos(w * offset), math.sin(w * offset)
            turn = gain * torch.tensor([[cos, -sin], [sin, cos]])
            pair = slice(2 * j, 2 * j + 2)
            query[head * c + 2 * j : head * c + 2 * j + 2, pair] = turn
            key[head * c + 2 * j : head * c + 2 * j + 2, pair] = gain * torch.eye(2)
    value = value / 0.3
    if layer == 0:
        start = _TIME + _PLACE
        for head, channel in ((0, 0), (1, 16), (2, 0), (3, 16), (4, 0), (5, 0), (7, 32)):
            value[head * c : head * c + 16] = 0.0
            value[head * c : head * c + 16, start + channel : start + channel + 16] = torch.eye(16)
    rows = slice(_POSITIONS_HEAD * c, _POSITIONS_HEAD * c + _PLACE)
    value[rows] = 0.0
    value[rows, _TIME : _TIME + _PLACE] = torch.eye(_PLACE)
    a.temporal_proj.weight.copy_(torch.cat([query, key, value]))


def _set_spatial(a: SeparateProjectionAttention, config: VidTrConfig, layer: int, generator: torch.Generator) -> None:
    dim, c = config.dim, config.dim // config.heads
    query, key = (0.15 * _orthogonal(dim, dim, generator) for _ in range(2))
    value = _orthogonal(dim, dim, generator)
    places = slice(_POSITIONS_HEAD * c, _POSITIONS_HEAD * c + _PLACE)
    own_place = 6 if layer == 0 else 4
    for head in range(own_place):
        rows = slice(head * c, head * c + _PLACE)
        query[rows], key[rows] = 0.0, 0.0
        query[rows, places] = _SPATIAL_GAIN * torch.eye(_PLACE)
        key[rows, places] = _SPATIAL_GAIN * torch.eye(_PLACE)
        if layer == 0:
            value[head * c : (head + 1) * c] = 0.0
            value[head * c : (head + 1) * c, head * c : (head + 1) * c] = torch.eye(c)
    a.spatial_proj.weight.copy_(torch.cat([query, key, value]))
