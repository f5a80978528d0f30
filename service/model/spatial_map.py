"""Where the model looked: what the class token reads in the last layer, at each place of each input frame.

A separable layer lets the class token S^(0,0) read the value of location s in grid row r with the weight
`A_s[0, s] A_t[s][0, r]` of each head: along time at every location, then across the class row. Both are rows for one
query, so that the map of the last layer costs next to nothing, where a rollout through space would need the spatial
maps of all layers, which run fused and are never built. In a joint layer the weight is the class token's row of the
joint map. What the weights spend on class tokens has no place and is left out.

Slots are those of `service.model.rollout`; S is the locations, h the heads. Rows of earlier layers that pool lead from
the slots of the last layer back to input frames.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def read_in_space(temporal: Tensor, across: Tensor) -> Tensor:
    """What S^(0,0) reads in a separable layer, mean over heads: float32 `(B, S, t)` for the t frames that enter it.

    `temporal` is the temporal map `(B, h, P, Q, R)`, whose first row and column are the class row's; `across` is what
    S^(0,0) attends to across space, `(B, h, P)`, the spatial class token first.
    """
    return (temporal[:, :, 1:, 0, 1:] * across[:, :, 1:].unsqueeze(-1)).float().mean(dim=1)


def read_jointly(weights: Tensor, frames: int) -> Tensor:
    """The same in a layer of joint attention: `(B, 1 + t*S)`, itself first, to float32 `(B, S, t)`."""
    return weights[:, 1:].float().view(weights.size(0), frames, -1).transpose(1, 2)


def slot_origins(carry: Tensor, rows: Tensor | None, uniform: bool, first: int) -> Tensor:
    """Of which entering frames a pooling layer makes those that leave: `(B, 1 or S, u, t)`, rows summing to 1.

    `carry` is the layer's matrix of `service.model.rollout`. Where the choice is `uniform`, the same in all places, it
    says so already; else the surviving `rows`, `(B, h, P, Q)`, do, as their mean over heads. `first` is 1 where the
    grid of `rows` has a class row and a class column, else 0.
    """
    if rows is None or uniform:
        return carry[:, 1:, 1:].unsqueeze(1)
    chosen = rows[:, :, first:, first:] - first  # (B, h, S, u)
    return F.one_hot(chosen, carry.size(-1) - 1).float().mean(dim=1)


def spatial_map(parts: list[Tensor]) -> Tensor:
    """Lead what the class token reads back to the T input frames: float32 `(B, T, S)`, sums to at most 1.

    `parts` are the `slot_origins` of the layers that pool before the last layer, in their order, and then what the
    class token reads in the last layer. A frame that left before the last layer has zeros only.
    """
    read = parts[-1]
    for i in range(len(parts) - 2, -1, -1):
        origins = parts[i]
        if origins.size(1) == 1:
            read = torch.matmul(read, origins.squeeze(1))
        else:
            read = torch.matmul(read.unsqueeze(2), origins).squeeze(2)
    return read.transpose(1, 2)
