"""Temporal down-sampling by the standard deviation of temporal attention (topK_std, C-VidTr).

A frame whose attention row is flat looks at all frames alike and adds little; frames with the most uneven rows stay.
Reference: arXiv 2104.11746, section on compact VidTr.

Shape letters: B clips, h heads, P grid columns (the spatial class token first, where there is one), R grid rows
entering (the temporal class row first, where there is one), Q grid rows leaving, c channels of one head, d = h * c.
"""

import torch
from torch import Tensor, nn

from service.model.config import Selection


def topk_std(attention: Tensor, keep: int, selection: str, class_row: bool = True) -> Tensor:
    """Choose the grid rows that survive: the class row, and the `keep` frame rows with the largest deviation.

    `attention` is the temporal map `(B, h, P, R, R)`, rows summing to 1. The deviation is the unbiased standard
    deviation of a frame row over all R columns, in float32, averaged over the `selection` scope. Of equal deviations
    the earlier frame wins. Returns int64 rows `(B, h, P, Q)`, ascending in time; with `class_row`, row 0 of the map is
    no frame and is kept first.
    """
    first = int(class_row)
    sigma = attention[:, :, :, first:].detach().float().std(dim=-1)  # (B, h, P, t)
    if selection == "frame":
        sigma = sigma.mean(dim=[1, 2], keepdim=True)  # (B, 1, 1, t)
    elif selection == "location":
        sigma = sigma.mean(dim=[1], keepdim=True)  # (B, 1, P, t)
    # A stable sort, because topk leaves the order of ties to the device.
    ranked = torch.sort(sigma, stable=True, dim=-1, descending=True)[1]
    frames = ranked[..., :keep].sort(dim=-1)[0]  # (B, 1|h, 1|P, keep)
    rows = nn.functional.pad(frames + first, [first, 0])  # (B, 1|h, 1|P, Q)
    return rows.expand(attention.size(0), attention.size(1), attention.size(2), keep + first)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Pick grid rows for each head and column: `(B, h, P, R, c)` by `(B, h, P, Q)` to `(B, h, P, Q, c)`."""
    return x.gather(3, rows.unsqueeze(-1).expand(-1, -1, -1, -1, x.size(-1)))


def take_token_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Pick grid rows of the token stream head slice by head slice: `(B, R, P, d)` to `(B, Q, P, d)`.

    Channels `jc .. (j+1)c - 1` of a token follow the choice of head j.
    """
    batch, heads, columns, _ = rows.shape
    slices = x.view(batch, x.size(1), columns, heads, -1).permute(0, 3, 2, 1, 4)  # (B, h, P, R, c)
    return take_rows(slices, rows).permute(0, 3, 2, 1, 4).flatten(3)  # (B, Q, P, d)


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
        pooled = take_rows(attention, rows)
        if self.second_softmax:
            pooled = pooled.softmax(dim=-1)
        return pooled, rows

    def values(self, attention: Tensor, pooled: Tensor, value: Tensor) -> Tensor:
        """Temporal result `(B, h, P, Q, c)` of the values `(B, h, P, R, c)`."""
        return torch.matmul(pooled, value)

    def heads(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Pool queries or keys, `(B, h, P, R, c)` to `(B, h, P, Q, c)`."""
        assert rows is not None  # noqa: S101 - the common signature allows None
        return take_rows(x, rows)

    def tokens(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Pool the residual stream, `(B, R, P, d)` to `(B, Q, P, d)`."""
        assert rows is not None  # noqa: S101 - the common signature allows None
        return take_token_rows(x, rows)
