"""Separable attention: along time at each location, then across space in each frame, or the other way round.

Reference: arXiv 2104.11746, section on separable attention. The map costs (S+1)(T+1)^2 + (T+1)(S+1)^2 entries per
head, against (1 + T S)^2 for joint attention.

Shape letters as in `service.model.pooling`: B clips, h heads, P columns, R rows in, Q rows out, c = d / h. Queries,
keys and values stay in the layout of the tokens, `(B, R, P, d)`, of which both steps take views: separate projections
of the packed weights spare the copies that splitting their packed result would take.
"""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.grid import along_time, temporal_map
from service.model.layers import project, softmax32
from service.model.pair_pooling import PairConv, PairMean
from service.model.pooling import TopKStd

Pool: TypeAlias = TopKStd | PairMean | PairConv


class Attended(NamedTuple):
    """Result of one separable attention step; where only the class token asks, Q and the P of `tokens` are 1."""

    tokens: Tensor
    """`(B, Q, P, d)`, after the output projection and before the residual."""
    temporal: Tensor
    """`(B, h, P, Q, R)`, the temporal map that multiplied the values, before dropout; rows sum to 1. At least float32.
    Of a layer without pooling where only the class token asks, the class row alone."""
    rows: Tensor | None
    """`(B, h, P, Q)` int64 grid rows that survive, or None where none were chosen."""
    across: Tensor | None
    """`(B, h, P)`, what token (0, 0) attends to across space, at least float32; None unless asked for."""


def spatial_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float) -> Tensor:
    """Softmax attention across the columns of each row: `(B, Q, M, d)` by twice `(B, Q, P, d)` to `(B, Q, M, d)`."""
    o = F.scaled_dot_product_attention(
        _by_row(query, heads), _by_row(key, heads), _by_row(value, heads), dropout_p=dropout
    )  # (B * Q, h, M, c)
    return o.transpose(1, 2).reshape(query.shape)


def class_row(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """What the first token attends to across its row, of queries and keys `(B, Q, P, d)`: `(B, h, P)`."""
    scores = torch.matmul(_by_row(query[:, :1, :1], heads), _by_row(key[:, :1], heads).transpose(-2, -1))
    return softmax32(scores, (query.size(-1) // heads) ** -0.5).squeeze(2)


def _by_row(x: Tensor, heads: int) -> Tensor:
    # The fused kernels take four dimensions, with heads second.
    return torch.unflatten(x.flatten(0, 1), -1, [heads, -1]).transpose(1, 2)  # (B, Q, P, d) -> (B * Q, h, P, c)


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

    def forward(self, x: Tensor, class_only: bool = False, spatial: bool = False) -> Attended:
        """Attend over normalized tokens `(B, R, P, d)`; with `class_only` token (0, 0) alone asks.

        With `spatial` the result says what that token attends to across space.
        """
        queries = x[:, :1] if class_only and self.pool is None else x
        query = project(queries, self.in_proj_weight, self.in_proj_bias, 0)
        key = project(x, self.in_proj_weight, self.in_proj_bias, 1)
        value = project(x, self.in_proj_weight, self.in_proj_bias, 2)
        temporal = temporal_map(query, key, self.heads)
        rows: Tensor | None = None
        if self.pool is not None:
            pooled, rows = self.pool(temporal)
            value = self.pool.values(temporal, pooled, value)
            query, key = self.pool.tokens(query, rows), self.pool.tokens(key, rows)
            temporal = pooled
        else:
            value = along_time(F.dropout(temporal, self.dropout, self.training), value)
        if class_only:
            query, key, value = query[:, :1, :1], key[:, :1], value[:, :1]
        across: Tensor | None = None
        if spatial:
            across = class_row(query, key, self.heads)
        dropout = self.dropout if self.training else 0.0
        in_space = spatial_attention(query, key, value, self.heads, dropout)
        return Attended(self.out_proj(in_space), temporal, rows, across)

    def residual(self, x: Tensor, rows: Tensor | None) -> Tensor:
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

    def forward(self, x: Tensor, class_only: bool = False, spatial: bool = False) -> Attended:
        """Attend over normalized tokens `(B, R, P, d)`; with `class_only` token (0, 0) alone asks.

        With `spatial` the result says what that token attends to across space.
        """
        queries = x[:, :1] if class_only and self.pool is None else x
        query = project(queries, self.temporal_proj.weight, self.temporal_proj.bias, 0)
        key = project(x, self.temporal_proj.weight, self.temporal_proj.bias, 1)
        value = project(x, self.temporal_proj.weight, self.temporal_proj.bias, 2)
        temporal = temporal_map(query, key, self.heads)
        rows: Tensor | None = None
        if self.pool is not None:
            pooled, rows = self.pool(temporal)
            in_time = self.pool.values(temporal, pooled, value)
            temporal = pooled
        else:
            in_time = along_time(F.dropout(temporal, self.dropout, self.training), value)
        if class_only:
            in_time = in_time[:, :1]
        queries = in_time[:, :, :1] if class_only else in_time
        query = project(queries, self.spatial_proj.weight, self.spatial_proj.bias, 0)
        key = project(in_time, self.spatial_proj.weight, self.spatial_proj.bias, 1)
        value = project(in_time, self.spatial_proj.weight, self.spatial_proj.bias, 2)
        across: Tensor | None = None
        if spatial:
            across = class_row(query, key, self.heads)
        dropout = self.dropout if self.training else 0.0
        in_space = spatial_attention(query, key, value, self.heads, dropout)
        return Attended(self.out_proj(in_space), temporal, rows, across)

    def residual(self, x: Tensor, rows: Tensor | None) -> Tensor:
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

    def forward(self, x: Tensor, class_only: bool = False, spatial: bool = False) -> Attended:
        """Attend over normalized tokens `(B, R, P, d)`; with `class_only` token (0, 0) alone leaves.

        `spatial` changes nothing: there is no class token to ask.
        """
        query = project(x, self.in_proj_weight, self.in_proj_bias, 0)
        key = project(x, self.in_proj_weight, self.in_proj_bias, 1)
        value = project(x, self.in_proj_weight, self.in_proj_bias, 2)
        in_space = spatial_attention(query, key, value, self.heads, self.dropout if self.training else 0.0)
        temporal = temporal_map(query, key, self.heads)
        in_time = along_time(F.dropout(temporal, self.dropout, self.training), in_space)
        if class_only:
            in_time = in_time[:, :1, :1]
        return Attended(self.out_proj(in_time), temporal, None, None)

    def residual(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """What the residual stream keeps beside the attention: all of it."""
        return x
