"""VidTr and C-VidTr written down plainly: the baseline that the shipped forwards are measured against.

Functions over a state dict with the official names. Every attention map is materialized and every token computed, with
nothing but linear, matmul and softmax, and without a Python loop over frames, heads or locations. Shape letters: B
clips, h heads, c = d / h, T frames, S locations, P = S + 1, R = T + 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def patches(weights: Weights, clips: Tensor) -> Tensor:
    """Patch embedding of normalized clips `(B, 3, T, H, W)`: `(B, T, S, d)`."""
    kernel = weights["conv_stem.weight"]
    p = kernel.size(-1)
    batch, colors, frames, height, width = clips.shape
    x = clips.reshape(batch, colors, frames, height // p, p, width // p, p).permute(0, 2, 3, 5, 1, 4, 6)
    x = x.reshape(batch, frames, -1, colors * p * p)
    return F.linear(x, kernel.flatten(1), weights["conv_stem.bias"])


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    """LayerNorm over the last dimension."""
    return F.layer_norm(x, (x.size(-1),), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Linear map of the last dimension."""
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def mlp(weights: Weights, layer: str, x: Tensor) -> Tensor:
    """`x + linear2(relu(linear1(LN2(x))))`."""
    hidden = torch.relu(linear(weights, f"{layer}.linear1", norm(weights, f"{layer}.norm2", x)))
    return x + linear(weights, f"{layer}.linear2", hidden)


def project(weights: Weights, layer: str, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of tokens `(B, n, m, d)`, each `(B, n, m, h, c)`."""
    packed = F.linear(x, weights[f"{layer}.self_attn.in_proj_weight"], weights[f"{layer}.self_attn.in_proj_bias"])
    query, key, value = packed.view(*x.shape[:-1], 3, heads, -1).unbind(-3)
    return query, key, value


def attend(query: Tensor, key: Tensor) -> Tensor:
    """Softmax map `(..., n, n)` of `(..., n, c)`."""
    return torch.softmax(query @ key.transpose(-2, -1) / query.size(-1) ** 0.5, dim=-1)


def across_space(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Spatial attention in every row: `(B, rows, P, h, c)` three times to `(B, rows, P, d)`."""
    query, key, value = (x.transpose(2, 3) for x in (query, key, value))  # (B, rows, h, P, c)
    return (attend(query, key) @ value).transpose(2, 3).flatten(3)


def vidtr(weights: Weights, clips: Tensor, *, depth: int, heads: int) -> Tensor:
    """Logits `(B, K)` of VidTr (separable attention, class tokens in space and time) with T other than 16."""
    x = patches(weights, clips)
    batch, frames, _, dim = x.shape
    x = torch.cat([weights["cls_s"].expand(batch, frames, 1, dim), x], dim=2)
    x = torch.cat([weights["cls_t"].expand(batch, 1, x.size(2), dim), x], dim=1)  # (B, R, P, d)
    positions = weights["pos_embedding"].view(1, *x.shape[1:])
    for i in range(depth):
        layer = f"encoder.layers.{i}"
        normed = norm(weights, f"{layer}.norm1", x)
        query, key, value = project(weights, layer, normed + positions if i == 0 else normed, heads)
        over_time = attend(query.permute(0, 2, 3, 1, 4), key.permute(0, 2, 3, 1, 4))  # (B, P, h, R, R)
        value = (over_time @ value.permute(0, 2, 3, 1, 4)).permute(0, 3, 1, 2, 4)  # (B, R, P, h, c)
        x = x + linear(weights, f"{layer}.self_attn.out_proj", across_space(query, key, value))
        x = mlp(weights, layer, x)
    return linear(weights, "fc", norm(weights, "encoder.norm", x)[:, 0, 0])


def _separable(
    weights: Weights, layer: str, x: Tensor, positions: Tensor | None, heads: int, frames: int, drop: int
) -> Tensor:
    normed = norm(weights, f"{layer}.norm1", x)
    if positions is not None:
        normed = normed + positions
    batch, _, dim = x.shape
    grid = normed[:, 1:].view(batch, frames, -1, dim)
    query, key, value = (y.permute(0, 2, 3, 1, 4) for y in project(weights, layer, grid, heads))  # (B, S, h, T, c)
    over_time = attend(query, key)  # (B, S, h, T, T)
    tokens = x[:, 1:]
    if drop:
        keep = frames - drop
        kept = over_time.std(dim=-1).topk(keep, dim=-1)[1].sort(dim=-1)[0].unsqueeze(-1)  # (B, S, h, keep, 1)
        over_time = torch.softmax(over_time.gather(3, kept.expand(-1, -1, -1, -1, frames)), dim=-1)
        of_channels = kept.expand(-1, -1, -1, -1, query.size(-1))
        query, key = query.gather(3, of_channels), key.gather(3, of_channels)
        slices = tokens.view(batch, frames, query.size(1), heads, -1).permute(0, 2, 3, 1, 4)
        tokens = slices.gather(3, of_channels).permute(0, 3, 1, 2, 4).reshape(batch, -1, dim)
    value = over_time @ value
    out = across_space(*(y.permute(0, 3, 1, 2, 4) for y in (query, key, value)))
    out = linear(weights, f"{layer}.self_attn.out_proj", out).flatten(1, 2)
    return torch.cat([x[:, :1] + normed[:, :1], tokens + out], dim=1)


def _joint(weights: Weights, layer: str, x: Tensor, heads: int) -> Tensor:
    normed = norm(weights, f"{layer}.norm1", x).unsqueeze(1)
    out = across_space(*project(weights, layer, normed, heads)).squeeze(1)
    return x + linear(weights, f"{layer}.self_attn.out_proj", out)


def cvidtr(weights: Weights, clips: Tensor, *, depth: int, heads: int, drops: Mapping[int, int]) -> Tensor:
    """Logits `(B, K)` of C-VidTr in its official form; `drops` maps a pooling layer to the frames that it drops."""
    x = patches(weights, clips)
    frames = x.size(1)
    x = torch.cat([weights["cls"].expand(x.size(0), 1, -1), x.flatten(1, 2)], dim=1)  # (B, 1 + TS, d)
    for i in range(depth):
        layer = f"encoder.layers.{i}"
        if i <= max(drops):
            positions = weights["pos_embedding"] if i == 0 else None
            x = _separable(weights, layer, x, positions, heads, frames, drops.get(i, 0))
            frames -= drops.get(i, 0)
        else:
            x = _joint(weights, layer, x, heads)
        x = mlp(weights, layer, x)
    return linear(weights, "fc", norm(weights, "encoder.norm", x)[:, 0])
