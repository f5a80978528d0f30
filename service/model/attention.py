"""Separable attention: along time at each location, then across space in each frame, or the other way round.

Reference: arXiv 2104.11746, section on separable attention. The map costs (S+1)(T+1)^2 + (T+1)(S+1)^2 entries per
head, against (1 + T S)^2 for joint attention.

Shape letters as in `service.model.pooling`: B clips, h heads, P columns, R rows in, Q rows out, c = d / h.
"""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.pairs import PairConv, PairMean
from service.model.pooling import TopKStd

Pool: TypeAlias = TopKStd | PairMean | PairConv


class Attended(NamedTuple):
    """Result of one separable attention step."""

    tokens: Tensor
    """`(B, Q, P, d)`, after the output projection and before the residual."""
    temporal: Tensor
    """`(B, h, P, Q, R)`, the temporal map that multiplied the values, before dropout; rows sum to 1."""
    rows: Tensor | None
    """`(B, h, P, Q)` int64 grid rows that survive, or None where none were chosen."""


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Packed projections `(B, R, P, 3d)` to query, key and value `(B, h, P, R, c)`."""
    batch, rows, columns, packed = qkv.shape
    parts = qkv.view(batch, rows, columns, 3, heads, packed // (3 * heads))  # (B, R, P, 3, h, c)
    parts = parts.permute(3, 0, 4, 2, 1, 5)  # (3, B, h, P, R, c)
    return parts[0], parts[1], parts[2]


def temporal_map(query: Tensor, key: Tensor) -> Tensor:
    """Softmax attention along time, `(B, h, P, R, c)` twice to `(B, h, P, R, R)`."""
    scores = torch.matmul(query * query.size(-1) ** -0.5, key.transpose(-2, -1))
    return scores.softmax(dim=-1)


def spatial_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Softmax attention across the columns of each row, `(B, h, P, Q, c)` three times to `(B, Q, P, d)`."""
    batch, heads, columns, rows, channels = value.shape
    o = F.scaled_dot_product_attention(
        _rows_as_batch(query), _rows_as_batch(key), _rows_as_batch(value), dropout_p=dropout
    )  # (B * Q, h, P, c)
    return o.transpose(1, 2).reshape(batch, rows, columns, heads * channels)  # (B, Q, P, d)


def _rows_as_batch(x: Tensor) -> Tensor:
    # The fused kernels take four dimensions, with heads second.
    return x.permute(0, 3, 1, 2, 4).flatten(0, 1)  # (B * Q, h, P, c)


class SharedProjectionAttention(nn.Module):
    """Separable attention with one projection for both steps, as in the released weights.

    Query and key serve time and space alike; only the value is replaced by the temporal result. Parameters carry the
    names and shapes of `nn.MultiheadAttention`, so the released weights load directly.
    """

    def __init__(self, dim: int, heads: int, dropout: float, pool: Pool | None) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.pool = pool
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Attended:
        """Attend over normalised tokens `(B, R, P, d)`."""
        query, key, value = split_heads(F.linear(x, self.in_proj_weight, self.in_proj_bias), self.heads)
        temporal = temporal_map(query, key)
        rows: Tensor | None = None
        if self.pool is not None:
            pooled, rows = self.pool(temporal)
            value = self.pool.values(temporal, pooled, value)
            query, key = self.pool.heads(query, rows), self.pool.heads(key, rows)
            temporal = pooled
        else:
            value = torch.matmul(F.dropout(temporal, self.dropout, self.training), value)
        dropout = self.dropout if self.training else 0.0
        return Attended(self.out_proj(spatial_attention(query, key, value, dropout)), temporal, rows)

    def carried(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """What the residual stream `(B, R, P, d)` keeps beside the attention: `(B, Q, P, d)`."""
        return x if self.pool is None else self.pool.tokens(x, rows)


class SeparateProjectionAttention(nn.Module):
    """Separable attention MSA_s(MSA_t(x)) with own projections for time and for space, as the paper writes.

    The temporal step has no output projection: the spatial projections follow at once, and two linear maps in a row
    are one.
    """

    def __init__(self, dim: int, heads: int, dropout: float, pool: Pool | None) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.pool = pool
        self.temporal_proj = nn.Linear(dim, 3 * dim)
        self.spatial_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Attended:
        """Attend over normalised tokens `(B, R, P, d)`."""
        query, key, value = split_heads(self.temporal_proj(x), self.heads)
        temporal = temporal_map(query, key)
        rows: Tensor | None = None
        if self.pool is not None:
            pooled, rows = self.pool(temporal)
            value = self.pool.values(temporal, pooled, value)
            temporal = pooled
        else:
            value = torch.matmul(F.dropout(temporal, self.dropout, self.training), value)
        in_time = value.permute(0, 3, 2, 1, 4).flatten(3)  # (B, h, P, Q, c) -> (B, Q, P, d)
        query, key, value = split_heads(self.spatial_proj(in_time), self.heads)
        dropout = self.dropout if self.training else 0.0
        return Attended(self.out_proj(spatial_attention(query, key, value, dropout)), temporal, rows)

    def carried(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """What the residual stream `(B, R, P, d)` keeps beside the attention: `(B, Q, P, d)`."""
        return x if self.pool is None else self.pool.tokens(x, rows)


class SpatialFirstAttention(nn.Module):
    """The ablation of the order: across space and then along time, with the queries and keys of one projection.

    Parameters are those of `SharedProjectionAttention`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Attended:
        """Attend over normalised tokens `(B, R, P, d)`."""
        batch, rows, columns, _ = x.shape
        query, key, value = split_heads(F.linear(x, self.in_proj_weight, self.in_proj_bias), self.heads)
        in_space = spatial_attention(query, key, value, self.dropout if self.training else 0.0)  # (B, R, P, d)
        value = in_space.view(batch, rows, columns, self.heads, -1).permute(0, 3, 2, 1, 4)  # (B, h, P, R, c)
        temporal = temporal_map(query, key)
        in_time = torch.matmul(F.dropout(temporal, self.dropout, self.training), value)
        return Attended(self.out_proj(in_time.permute(0, 3, 2, 1, 4).flatten(3)), temporal, None)

    def carried(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """What the residual stream keeps beside the attention: all of it."""
        return x
