"""When the model looked: attention rollout along time (Abnar and Zuidema 2020, arXiv 2005.00928), through pooling.

Slots are the rows of the token grid: slot 0 is the temporal class row, the others are the frames still alive. A layer
with t frames in and u out is described by two row-stochastic matrices `(B, u+1, t+1)`, each averaged over heads and
locations: `attention`, the temporal map that multiplied the values, and `carry`, how the residual moves slots
(identity, or the mean one-hot selection of topK_std). Where the selection differs between heads or locations a slot
mixes frames, and the rollout is that of the mean.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def layer_flow(temporal: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """The `attention` and `carry` matrices of one layer, both float32 `(B, Q, R)`.

    `temporal` is its temporal map `(B, h, P, Q, R)`; `rows` are the surviving grid rows `(B, h, P, Q)`, or None.
    """
    attention = temporal.float().mean(dim=[1, 2])
    if rows is None:
        carry = torch.eye(temporal.size(-1), device=temporal.device).expand_as(attention)
    else:
        carry = F.one_hot(rows, temporal.size(-1)).float().mean(dim=[1, 2])
    return attention, carry


def rollout(attention: list[Tensor], carry: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Follow attention back to the T input frames through L layers.

    `attention[l]` and `carry[l]` are the matrices of layer l. With A and P for them, R <- (A/2 + P/2) R from R = I,
    and C = P_l ... P_1. Returns, all float32 for the frame columns only:
    `temporal_attention (B, T)`, the class row of R, summing to 1;
    `layer_attention (B, L, T)`, the class row of each A carried to input frames by the C before it, summing to 1;
    `layer_retention (B, L, T)`, column sums of C: the share of heads x locations that still carry a frame.
    """
    slots = attention[0].size(-1)
    identity = torch.eye(slots, device=attention[0].device)
    reach = identity.expand(attention[0].size(0), slots, slots)
    carried = reach
    scores: list[Tensor] = []
    retention: list[Tensor] = []
    for a, p in zip(attention, carry):  # noqa: B905 - TorchScript knows no strict
        scores.append(torch.matmul(a[:, :1, 1:], carried[:, 1:, 1:]).squeeze(1))  # (B, T)
        carried = torch.matmul(p, carried)
        retention.append(carried[:, 1:, 1:].sum(dim=1))  # (B, T)
        reach = torch.matmul(0.5 * (a + p), reach)
    return _normalise(reach[:, 0, 1:]), _normalise(torch.stack(scores, dim=1)), torch.stack(retention, dim=1)


def _normalise(x: Tensor) -> Tensor:
    # A map that spends all its weight on the class row reads as an even spread instead of 0 / 0; next to any other
    # score the added term is below float32 resolution.
    x = x + 1e-30
    return x / x.sum(dim=-1, keepdim=True)
