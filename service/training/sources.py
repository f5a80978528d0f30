"""What a source of clips is: batches to train on, and a set to evaluate on.

A batch depends on the seed, the step and the position in it, and on nothing that ran before: a resumed run sees what
the uninterrupted one would have seen, and several processes together see what one process would. Each kind has its own
module, so that clips which are there already can be trained on without a decoder.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Examples(NamedTuple):
    """Clips with their targets."""

    clips: Tensor
    """uint8 `(B, T, H, W, 3)`."""
    targets: Tensor
    """float32 `(B, K)`, one-hot or multi-hot."""
    cut: Tensor
    """int64 `(B,)`, the slot before a generated cut, -1 where there is none."""
    flow: Tensor = torch.empty(0)
    """float32 `(B, T, g, g, 4)`, the generated motion at each patch; empty where it is not known."""
    values: Tensor = torch.empty(0)
    """float32 `(B, T)`, what each frame is worth to the first label; NaN in clips of which it is not known, empty where
    it is known of none."""


class Source(Protocol):
    """Batches to train on and videos to evaluate on."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several."""

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """Positions `first .. last - 1` of the batch of `size` clips of a step."""

    def held_out(self) -> list[Examples]:
        """The evaluation set; each entry holds all views of one video, or single clips, one row a video."""


def generator_for(seed: int, *numbers: int) -> torch.Generator:
    """A generator whose state depends on all the numbers."""
    digest = hashlib.sha256(repr((seed, *numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
