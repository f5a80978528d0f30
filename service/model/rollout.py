"""When the model looked: attention rollout along time (Abnar and Zuidema 2020, arXiv 2005.00928), through pooling.

Slots are what a layer tells apart in time: slot 0 is the class row or token, the others are the frames still alive. A
layer with t frames in and u out is described by two row-stochastic matrices `(B, u+1, t+1)`, each averaged over heads
and locations: `attention`, the temporal map that multiplied the values, and `carry`, how the residual moves slots
(identity, the mean one-hot selection of topK_std, or an even share of each pair). Where the selection differs between
heads or locations a slot mixes frames, and the rollout is that of the mean.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.pair_pooling import pair_mean


def layer_flow(temporal: Tensor, rows: Tensor | None, class_row: bool = True) -> tuple[Tensor, Tensor]:
    """The `attention` and `carry` matrices of a separable layer, both float32 `(B, u+1, t+1)`.

    `temporal` is its temporal map `(B, h, P, Q, R)`; `rows` are the surviving grid rows `(B, h, P, Q)`, or None, where
    fewer rows leave than enter if they were merged in pairs; of a map of the class row alone, the frames stay what
    they are. Without `class_row` the map holds frames only and slot 0, which the layer leaves alone, is added.
    """
    attention = temporal.float().mean(dim=[1, 2])
    if rows is not None:
        carry = F.one_hot(rows, temporal.size(-1)).float().mean(dim=[1, 2])
    else:
        carry = torch.eye(temporal.size(-1), device=temporal.device)
        if temporal.size(-2) == 1:
            attention = torch.cat([attention, carry[1:].expand(attention.size(0), -1, -1)], dim=1)
        elif temporal.size(-2) < temporal.size(-1):
            carry = pair_mean(carry, 0)
        carry = carry.expand_as(attention)
    if not class_row:
        attention, carry = _with_own_slot(attention), _with_own_slot(carry)
    return attention, carry


def _with_own_slot(matrix: Tensor) -> Tensor:
    bordered = F.pad(matrix, [1, 0, 1, 0])
    bordered[:, 0, 0] = 1.0
    return bordered


def joint_flow(weights: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """The `attention` and `carry` matrices of a layer of joint attention over t frames, both float32 `(B, t+1, t+1)`.

    `weights` is what the class token attends to, averaged over heads, `(B, 1 + t*S)`, itself first. Summed over each
    frame it is row 0; the frames, whose rows would take the whole joint map, stay what they are.
    """
    batch = weights.size(0)
    of_frames = weights[:, 1:].float().view(batch, frames, -1).sum(dim=-1)  # (B, t)
    class_row = torch.cat([weights[:, :1].float(), of_frames], dim=1).unsqueeze(1)  # (B, 1, t+1)
    carry = torch.eye(frames + 1, device=weights.device).expand(batch, frames + 1, frames + 1)
    return torch.cat([class_row, carry[:, 1:]], dim=1), carry


def rollout(attention: list[Tensor], carry: list[Tensor], num_separable: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Follow attention back to the T input frames through L layers.

    `attention[l]` and `carry[l]` are the matrices of layer l. In the first `num_separable` layers frames do not meet
    slot 0. With A and P for the matrices, R <- (A/2 + P/2) R from R = I, and C = P_l ... P_1. Returns, all float32 for
    the frame columns only:
    `temporal_attention (B, T)`, the class row of R, summing to 1; where all layers bypass, the mean of the frame rows,
    since a network without a temporal class row classifies the mean of its frames;
    `layer_attention (B, L, T)`, the class row of each A (the mean of the frame rows where they bypass) carried to
    input frames by the C before it, summing to 1;
    `layer_retention (B, L, T)`, column sums of C: the share of heads x locations that still carry a frame.
    """
    slots = attention[0].size(-1)
    identity = torch.eye(slots, device=attention[0].device)
    reach = identity.expand(attention[0].size(0), slots, slots)
    carried = reach
    scores: list[Tensor] = []
    retention: list[Tensor] = []
    for i, (a, p) in enumerate(zip(attention, carry)):  # noqa: B905 - TorchScript knows no strict
        weights = a[:, 1:, 1:].mean(dim=1, keepdim=True) if i < num_separable else a[:, :1, 1:]  # (B, 1, t)
        scores.append(torch.matmul(weights, carried[:, 1:, 1:]).squeeze(1))  # (B, T)
        carried = torch.matmul(p, carried)
        retention.append(carried[:, 1:, 1:].sum(dim=1))  # (B, T)
        reach = torch.matmul(0.5 * (a + p), reach)
    read = reach[:, 1:, 1:].mean(dim=1) if num_separable == len(attention) else reach[:, 0, 1:]
    return _normalize(read), _normalize(torch.stack(scores, dim=1)), torch.stack(retention, dim=1)


def _normalize(x: Tensor) -> Tensor:
    # A map that spends all its weight on the class row reads as an even spread instead of 0 / 0; next to any other
    # score the added term is below float32 resolution.
    x = x + 1e-30
    return x / x.sum(dim=-1, keepdim=True)
