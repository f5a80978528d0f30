"""Where a model looks when a video is cut: does its temporal attention peak at the two frames beside the cut?

Shapes: B clips, T frames, L layers; a cut at slot c lies between slots c and c + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from service.evaluation.candidates import Score, score_all, score_of
from service.model.factory import Network
from service.model.layers import NetworkOutput
from service.model.vidtr import GridLayer, VidTr
from service.training.intervals import Share, wilson


def found(signal: Tensor, cut: Tensor) -> Tensor:
    """Whether the largest of each row of `(B, T)` lies in slot c or c + 1 of its cut `(B,)`: bool `(B,)`."""
    behind = signal.argmax(1) - cut
    return (behind == 0) | (behind == 1)


def localisation(signal: Tensor, cut: Tensor) -> tuple[Share, list[Share]]:
    """The share of cuts found, over all and for each position 0 .. T - 2."""
    hits = found(signal, cut)
    by_position = [hits[cut == slot] for slot in range(signal.size(1) - 1)]
    return wilson(int(hits.sum()), len(hits)), [wilson(int(part.sum()), len(part)) for part in by_position]


def signals(scores: NetworkOutput) -> dict[str, Tensor]:
    """The per-frame signals `(B, T)` that a served model gives out: its rollout, and the class row of each layer."""
    layers = scores.layer_attention
    return {"temporal_attention": scores.temporal_attention} | {
        f"class row of layer {i}": layers[:, i] for i in range(layers.size(1))
    }


def inner_signals(network: Network, clips: Tensor, batch: int = 64) -> dict[str, Tensor]:
    """Signals that need the network's maps: none unless it is of the grid family with a temporal class row."""
    if not isinstance(network, VidTr) or network.config.class_tokens != "both":
        return {}
    parts = [_of_maps(*_maps(network, part)) for part in torch.split(clips, batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _maps(network: VidTr, clips: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """`attention` and `carry` of each layer, and the first layer's map `(B, h, P, Q, T+1)`."""
    flows: list[tuple[Tensor, Tensor]] = []
    first: list[Tensor] = []
    layers = cast(Sequence[GridLayer], network.encoder.layers)
    handles = [layer.register_forward_hook(lambda _m, _i, out: flows.append((out[1], out[2]))) for layer in layers]
    handles.append(layers[0].self_attn.register_forward_hook(lambda _m, _i, out: first.append(out.temporal)))
    try:
        score_of(network)(clips)
    finally:
        for handle in handles:
            handle.remove()
    return flows, first[0]


def _of_maps(maps: list[tuple[Tensor, Tensor]], temporal: Tensor) -> dict[str, Tensor]:
    bare = weighted = torch.eye(maps[0][0].size(-1)).expand(len(temporal), -1, -1)
    for attention, carry in maps:
        bare = torch.matmul(attention, bare)
        weighted = torch.matmul(0.8 * attention + 0.2 * carry, weighted)
    result = {
        "rollout without residual": bare[:, 0, 1:],
        "rollout with a fifth of residual": weighted[:, 0, 1:],
        "largest class weight of a column, layer 0": temporal[:, :, :, 0, 1:].mean(1).amax(1),
    }
    if temporal.size(-2) == temporal.size(-1):
        frames = temporal[:, :, :, 1:, 1:]
        result["deviation of the frame's row, layer 0"] = temporal[:, :, :, 1:].std(-1).mean(dim=[1, 2])
        result["deviation over the frame's column, layer 0"] = frames.std(-2).mean(dim=[1, 2])
    return result


def compared(score: Score, network: Network | None, clips: Tensor, cut: Tensor) -> dict[str, Share]:
    """How well each signal finds the cuts of `clips`."""
    all_signals = signals(score_all(score, clips))
    if network is not None:
        all_signals |= inner_signals(network, clips)
    return {name: localisation(signal, cut)[0] for name, signal in all_signals.items()}
