"""Temporal down-sampling by the standard deviation of temporal attention (topK_std, C-VidTr).

A frame whose attention row is flat looks at all frames alike and adds little; frames with the most uneven rows stay.
Reference: arXiv 2104.11746, section on compact VidTr.

Shape letters: B clips, h heads, P grid columns (the spatial class token first, where there is one), R grid rows
entering (the temporal class row first, where there is one), Q grid rows leaving, c channels of one head, d = h * c.
"""

import torch
from torch import Tensor, nn

from service.model.config import Selection
from service.model.grid import along_time


def topk_std(attention: Tensor, keep: int, selection: str, class_row: bool = True) -> Tensor:
    """Choose the grid rows that survive: the class row, and the `keep` frame rows with the largest deviation.

    `attention` is the temporal map `(B, h, P, R, R)`, rows summing to 1. The deviation is the unbiased standard
    deviation of a frame row over all R columns, in float32, averaged over the `selection` scope. Of equal deviations
    the earlier frame wins. Returns int64 rows `(B, h, P, Q)`, ascending in time; with `class_row`, row 0 of the map is
    no frame and is kept first.
    """
    first = int(class_row)
    weights = attention[:, :, :, first:].detach().double()  # (B, h, P, t, R)
    # `std` is slow on short rows. In double precision, so that rows of the same weights in another order are equal.
    deviations = weights - weights.mean(dim=-1, keepdim=True)
    sigma = (deviations.square().sum(dim=-1) / (weights.size(-1) - 1)).sqrt().float()  # (B, h, P, t)
    if selection == "frame":
        sigma = sigma.mean(dim=[1, 2], keepdim=True)  # (B, 1, 1, t)
    elif selection == "location":
        sigma = sigma.mean(dim=[1], keepdim=True)  # (B, 1, P, t)
    # A stable sort, because topk leaves the order of ties to the device.
    ranked = torch.sort(sigma, stable=True, dim=-1, descending=True)[1]
    frames = ranked[..., :keep].sort(dim=-1)[0]  # (B, 1|h, 1|P, keep)
    rows = nn.functional.pad(frames + first, [first, 0])  # (B, 1|h, 1|P, Q)
    return rows.expand(attention.size(0), attention.size(1), attention.size(2), keep + first)


def take_token_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Pick grid rows of tokens head slice by head slice: `(B, R, P, d)` by `(B, h, P, Q)` to `(B, Q, P, d)`.

    Channels `jc .. (j+1)c - 1` of a token follow the choice of head j.
    """
    batch, heads, columns, kept = rows.shape
    # Whole slices by their number are copied many times faster than `gather` picks element by element.
    slices = x.reshape(batch * x.size(1) * columns * heads, x.size(3) // heads)  # (B * R * P * h, c)
    first = torch.arange(batch, device=x.device).view(batch, 1, 1, 1) * x.size(1)
    of_location = torch.arange(columns * heads, device=x.device).view(1, 1, columns, heads)
    chosen = (first + rows.permute(0, 3, 2, 1)) * (columns * heads) + of_location  # (B, Q, P, h)
    return slices.index_select(0, chosen.flatten()).view(batch, kept, columns, x.size(3))


class TopKStd(nn.Module):
    """topK_std pooling of the temporal map: the `keep` most informative frame rows, and the class row if there is one.

    With `second_softmax` the kept rows go through softmax again, as in the released code.
    """

    def __init__(self, keep: int, selection: Selection, second_softmax: bool, class_row: bool = True) -> None:
        super().__init__()
        self.keep = keep
        self.selection: str = selection
        self.second_softmax = second_softmax
        self.class_row = class_row

    def forward(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, h, P, R, R)` to the pooled map `(B, h, P, Q, R)` and the rows kept, int64 `(B, h, P, Q)`."""
        rows = topk_std(attention, self.keep, self.selection, self.class_row)
        pooled = attention.gather(3, rows.unsqueeze(-1).expand(-1, -1, -1, -1, attention.size(-1)))
        if self.second_softmax:
            pooled = pooled.softmax(dim=-1)
        return pooled, rows

    def values(self, attention: Tensor, pooled: Tensor, value: Tensor) -> Tensor:
        """Temporal result `(B, Q, P, d)` of the values `(B, R, P, d)`."""
        return along_time(pooled, value)

    def tokens(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Pool queries, keys or the residual stream, `(B, R, P, d)` to `(B, Q, P, d)`."""
        assert rows is not None  # noqa: S101 - the common signature allows None
        return take_token_rows(x, rows)
