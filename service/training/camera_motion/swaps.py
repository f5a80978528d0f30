"""Labels that trade places when a clip is mirrored or reversed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Pair = tuple[str, str]

PAN: Pair = ("pan_left", "pan_right")
TILT: Pair = ("tilt_up", "tilt_down")
ZOOM: Pair = ("zoom_in", "zoom_out")
ROLL: Pair = ("roll_cw", "roll_ccw")


def swapped(labels: Sequence[str], *pairs: Pair) -> Tensor:
    """Int64 `(K,)`: for each of K `labels`, the index of the label that it becomes when the pairs are exchanged.

    Raises ValueError where a label of a pair is not among `labels`.
    """
    table = torch.arange(len(labels))
    for one, other in pairs:
        table[labels.index(one)], table[labels.index(other)] = labels.index(other), labels.index(one)
    return table
