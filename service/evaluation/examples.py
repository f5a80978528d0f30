"""A picture of clips and of where the model looked in them."""

from __future__ import annotations

import torch
from torch import Tensor

from service.model.preprocess import as_rgb

_SIDE, _GAP, _BAR = 96, 4, 40
_PAPER, _INK, _MARK = (255, 255, 255), (40, 90, 200), (214, 60, 40)


def spread_cuts(cut: Tensor, count: int = 3) -> list[int]:
    """The first clip with a cut at each of `count` positions, spread over those that `cut` `(B,)` has."""
    positions = sorted(set(cut.tolist()) - {-1})
    places = {round((len(positions) - 1) * (i + 1) / (count + 1)) for i in range(count if positions else 0)}
    return [cut.tolist().index(positions[place]) for place in sorted(places)]


def attention_picture(clips: Tensor, attention: Tensor, cut: Tensor) -> Tensor:
    """A strip of frames for each clip uint8 `(B, T, H, W, 3)`, and its attention `(B, T)` as bars below: `(h, w, 3)`.

    Bars reach their full height at the largest attention of the picture; a red line stands where `cut` `(B,)` says.
    """
    largest = float(attention.max())
    rows = [_row(*row, largest) for row in zip(as_rgb(clips), attention.tolist(), cut.tolist(), strict=True)]
    gap = _blank(3 * _GAP, rows[0].size(1))
    return torch.cat([part for row in rows for part in (row, gap)][:-1])


def _row(clip: Tensor, attention: list[float], cut: int, largest: float) -> Tensor:
    frames = clip.permute(0, 3, 1, 2).float()
    larger = torch.nn.functional.interpolate(frames, size=(_SIDE, _SIDE), mode="nearest").permute(0, 2, 3, 1).byte()
    parts = []
    for slot, (frame, weight) in enumerate(zip(larger, attention, strict=True)):
        bar = _blank(_BAR, _SIDE)
        height = round(weight / largest * (_BAR - _GAP))
        if height:
            bar[_BAR - height :, _SIDE // 4 : 3 * _SIDE // 4] = torch.tensor(_INK, dtype=torch.uint8)
        column = torch.cat([frame, bar])
        gap = _blank(len(column), _GAP)
        if slot == cut:
            gap[:] = torch.tensor(_MARK, dtype=torch.uint8)
        parts += [column, gap]
    return torch.cat(parts[:-1], dim=1)


def _blank(height: int, width: int) -> Tensor:
    return torch.tensor(_PAPER, dtype=torch.uint8).expand(height, width, 3).clone()
