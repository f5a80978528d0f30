"""Views of a grid of tokens as sequences along time, without copying them.

Shape letters as in `service.model.pooling`: B clips, h heads, P columns, R rows in, Q rows out, c = d / h.
"""

import torch
from torch import Tensor

from service.model.layers import softmax32


def by_column(x: Tensor, heads: int) -> Tensor:
    """View of tokens `(B, R, P, d)` as a sequence along time for each column and head, `(B, P * h, R, c)`."""
    batch, rows, columns, dim = x.shape
    return x.view(batch, rows, columns * heads, dim // heads).transpose(1, 2)


def temporal_map(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Softmax attention along time of queries `(B, Q, P, d)` and keys `(B, R, P, d)`: `(B, h, P, Q, R)`."""
    scores = torch.matmul(by_column(query, heads), by_column(key, heads).transpose(-2, -1))  # (B, P * h, Q, R)
    weights = softmax32(scores, (query.size(-1) // heads) ** -0.5)
    return torch.unflatten(weights, 1, [query.size(2), heads]).transpose(1, 2)


def along_time(attention: Tensor, value: Tensor) -> Tensor:
    """Weigh values `(B, R, P, d)` by a temporal map `(B, h, P, Q, R)`: `(B, Q, P, d)`."""
    batch, heads, columns, rows, _ = attention.shape
    weights = attention.transpose(1, 2).flatten(1, 2).to(value.dtype)  # (B, P * h, Q, R)
    o = torch.matmul(weights, by_column(value, heads))  # (B, P * h, Q, c)
    return o.transpose(1, 2).reshape(batch, rows, columns, value.size(-1))
