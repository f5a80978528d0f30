"""The camera's local motion, read from tokens while training: hundreds of targets a clip instead of one.

A label tells a fresh network little of what it should look for. Where pictures are generated, it is known how far the
camera moved the content of every patch: a linear map reads that from the tokens of the first layers, and its error is
one more loss. The maps exist while training only; the network stays as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.layers import NetworkOutput
from service.model.vidtr import VidTr

UNIT = 0.04
"""Motions are read in this many frame widths, so that most are of the order of 1."""


_LAYERS = 2
"""So many at most: what is local is found early, and later layers have other things to tell."""


class MotionScores(NamedTuple):
    """What the network says of clips, and the motion read from its tokens."""

    scores: NetworkOutput
    flows: list[Tensor]
    """`(B, T, S, 4)` of each layer read, in `UNIT`s; components as in `render.camera_flow`."""


class CameraFlowReader(nn.Module):
    """A network whose tokens are read after its first layers, before any that pools."""

    def __init__(self, network: VidTr) -> None:
        super().__init__()
        self.network = network
        config = network.config
        self.layers = min(_LAYERS, config.pooling[0][0] if config.pooling else config.depth)
        if not self.layers or config.class_tokens != "both":
            raise ValueError("camera_flow needs both class tokens and a layer before the first that pools")
        self.readers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, 4)) for _ in range(self.layers)
        )
        self._tokens: list[Tensor] = []
        for layer in network.encoder.layers[: self.layers]:
            layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> None:
        self._tokens.append(output[0])

    def forward(self, clips: Tensor) -> MotionScores:
        """Score normalized clips `(B, 3, T, H, W)` and read their motion."""
        self._tokens.clear()
        scores = self.network(clips)
        grids = (tokens[:, 1:, 1:] for tokens in self._tokens)
        flows = [reader(grid) for reader, grid in zip(self.readers, grids, strict=True)]
        self._tokens.clear()
        return MotionScores(scores, flows)


def flow_loss(flows: list[Tensor], target: Tensor) -> Tensor:
    """Sum over layers of the mean smoothed absolute error.

    `target` `(B, T, g, g, 4)` is in frame widths; where it is NaN nothing is asked.
    """
    wanted = target.flatten(2, 3) / UNIT
    known = wanted.isfinite()
    wanted = torch.where(known, wanted, 0.0)
    errors = [F.smooth_l1_loss(flow, wanted, reduction="none", beta=0.5) for flow in flows]
    return torch.stack([(error * known).sum() for error in errors]).sum() / known.sum().clamp(min=1)
