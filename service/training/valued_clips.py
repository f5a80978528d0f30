"""Clips with a network's scores and with what each frame is worth to them, kept in a file to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from service.training.camera_motion.mixed_moves import MovesBatch


@dataclass(frozen=True)
class ValuedClips:
    """N clips, of some of which the values are known."""

    clips: Tensor
    """uint8 `(N, T, H, W, 3)`."""
    scores: Tensor
    """float32 `(N, K)`, what the network that is to be kept to says of each label, 0 to 1."""
    cut: Tensor
    """int64 `(N,)`: the last slot before a generated cut, -1 where there is none."""
    values: Tensor
    """float32 `(N, T)`, what each frame is worth to the first label; NaN where it was not measured."""

    @property
    def measured(self) -> Tensor:
        """int64: which clips have values."""
        return self.values.isfinite().all(1).nonzero().flatten()

    @property
    def others(self) -> Tensor:
        """int64: which have none."""
        return (~self.values.isfinite().all(1)).nonzero().flatten()

    def batch(self, rows: Tensor) -> MovesBatch:
        """The clips `rows` `(B,)` as a generator gives its own; their motion is not known."""
        frames = self.clips.size(1)
        flow = torch.full((len(rows), frames, 1, 1, 4), torch.nan)
        return MovesBatch(self.clips[rows], self.scores[rows], self.cut[rows], flow, self.values[rows])

    def save(self, path: Path) -> None:
        """Write them to a file."""
        torch.save({name: getattr(self, name) for name in self.__dataclass_fields__}, path)


def read_valued_clips(path: Path) -> ValuedClips:
    """What `ValuedClips.save` wrote. Raises OSError where there is no such file."""
    return ValuedClips(**torch.load(path, weights_only=True, mmap=True))
