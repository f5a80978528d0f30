"""Temporal down-sampling that halves the frames without choosing: averages, or a convolution of stride 2.

The paper compares topK_std with both (arXiv 2104.11746, ablation of the down-sampling method) but does not spell them
out. Here the class row is kept, and the frame rows of the temporal result, of queries and keys and of the residual
stream are merged in pairs. Shape letters as in `service.model.pooling`; Q - 1 = (R - 1) / 2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.grid import along_time


def pair_mean(x: Tensor, dim: int) -> Tensor:
    """Average rows 1 and 2, 3 and 4, ... along `dim`; row 0, the class row, stays as it is."""
    frames = torch.unflatten(x.narrow(dim, 1, x.size(dim) - 1), dim, [-1, 2]).mean(dim=dim + 1)
    return torch.cat([x.narrow(dim, 0, 1), frames], dim=dim)


class PairMean(nn.Module):
    """Average pooling in non-overlapping pairs of frames.

    Averaging the rows of the map and averaging the temporal result are the same.
    """

    def forward(self, attention: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map `(B, h, P, R, R)` to the pooled map `(B, h, P, Q, R)`; there is no choice of rows."""
        return pair_mean(attention, 3), None

    def values(self, attention: Tensor, pooled: Tensor, value: Tensor) -> Tensor:
        """Temporal result `(B, Q, P, d)` of the values `(B, R, P, d)`."""
        return along_time(pooled, value)

    def tokens(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Pool queries, keys or the residual stream, `(B, R, P, d)` to `(B, Q, P, d)`."""
        return pair_mean(x, 1)


class PairConv(nn.Module):
    """A depthwise convolution along time, kernel 3, stride 2, padding 1, that starts as the mean of each pair.

    One kernel per channel serves the temporal result, queries, keys and the residual stream. Its weights may be
    negative, so that no map describes it; the one reported is that of the pair mean.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        kernel = torch.tensor([0.0, 0.5, 0.5])
        self.weight = nn.Parameter(kernel.repeat(dim, 1, 1))

    def forward(self, attention: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map `(B, h, P, R, R)` to the one reported, `(B, h, P, Q, R)`; there is no choice of rows."""
        return pair_mean(attention, 3), None

    def values(self, attention: Tensor, pooled: Tensor, value: Tensor) -> Tensor:
        """Temporal result `(B, Q, P, d)` of the values `(B, R, P, d)`."""
        return self.tokens(along_time(attention, value), None)

    def tokens(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Pool queries, keys, the temporal result or the residual stream, `(B, R, P, d)` to `(B, Q, P, d)`."""
        batch, _, columns, dim = x.shape
        frames = x[:, 1:].permute(0, 2, 3, 1).flatten(0, 1)  # (B * P, d, t)
        merged = F.conv1d(frames, self.weight, stride=2, padding=1, groups=dim)  # (B * P, d, t / 2)
        return torch.cat([x[:, :1], merged.view(batch, columns, dim, -1).permute(0, 3, 1, 2)], dim=1)
