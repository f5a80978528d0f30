"""Joint space-time attention: every token attends to every other, as in the vanilla video transformer.

Reference: arXiv 2104.11746, section on the vanilla video transformer. The map has (1 + T S)^2 entries per head, so it
is never built: only the row of the class token is, which says when the model looked.

Shape letters: B clips, h heads, N = 1 + t*S tokens, the class token first, c = d / h.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.layers import project, softmax32


class JointlyAttended(NamedTuple):
    """Result of joint attention."""

    tokens: Tensor
    """`(B, N, d)`, after the output projection and before the residual."""
    class_weights: Tensor
    """`(B, N)`, what the class token attends to, mean over heads, before dropout, at least float32; rows sum to 1."""


class JointAttention(nn.Module):
    """Multi-head self-attention with the parameters of `nn.MultiheadAttention`.

    Positions join queries and keys, and with `value_positions` the values as well.
    """

    def __init__(self, dim: int, heads: int, dropout: float, value_positions: bool) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.dropout = dropout
        self.value_positions = value_positions
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def projections(
        self, x: Tensor, positions: Tensor | None, class_only: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value `(B, h, N, c)` of tokens `(B, N, d)` and positions `(1, N, d)`.

        With `class_only` the query is that of the class token alone, `(B, h, 1, c)`.
        """
        placed = x if positions is None else x + positions
        queries = placed[:, :1] if class_only else placed
        query = self.split(project(queries, self.in_proj_weight, self.in_proj_bias, 0))
        key = self.split(project(placed, self.in_proj_weight, self.in_proj_bias, 1))
        valued = placed if self.value_positions else x
        return query, key, self.split(project(valued, self.in_proj_weight, self.in_proj_bias, 2))

    def split(self, x: Tensor) -> Tensor:
        """Split `(B, N, d)` into heads, `(B, h, N, c)`."""
        return torch.unflatten(x, -1, [self.heads, -1]).transpose(1, 2)

    def forward(self, x: Tensor, positions: Tensor | None, class_only: bool = False) -> JointlyAttended:
        """Attend over normalized tokens `(B, N, d)` with positions `(1, N, d)` or None.

        With `class_only` the class token alone asks, and `tokens` is `(B, 1, d)`.
        """
        query, key, value = self.projections(x, positions, class_only)
        dropout = self.dropout if self.training else 0.0
        o = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)  # (B, h, N, c)
        class_weights = joint_map(query[:, :, :1], key).mean(dim=1).squeeze(1)  # (B, N)
        return JointlyAttended(self.out_proj(o.transpose(1, 2).flatten(2)), class_weights)


def joint_map(query: Tensor, key: Tensor) -> Tensor:
    """Softmax attention of queries `(B, h, M, c)` to keys `(B, h, N, c)`: `(B, h, M, N)`."""
    return softmax32(torch.matmul(query, key.transpose(-2, -1)), query.size(-1) ** -0.5)
