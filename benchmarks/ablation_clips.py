"""The clips of the ablation: rendered once by several processes, kept in one file, read by every way and seed."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion.camera_moments import (
    MOMENT_LABELS,
    Moments,
    MomentsBatch,
    MomentsConfig,
    randomly_turned,
)
from service.training.sources import Examples, generator_for

_TOGETHER = 36
"""Clips that are rendered together."""
_BLOCK, _EVERY = 20, 7
"""Tiles of one picture lie side by side in a bank: whole blocks, of so many at most, are held out, every seventh."""
_camera: tuple[Tensor, MomentsConfig] | None = None
"""Of a process that renders: what it looks at."""


def divided(bank: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles to train on and tiles to evaluate on.

    Raises ValueError where there are too few to divide.
    """
    if len(bank) < 2 * _EVERY:
        raise ValueError(f"at least {2 * _EVERY} tiles are needed, not {len(bank)}")
    block = min(_BLOCK, len(bank) // (2 * _EVERY))
    held_out = torch.arange(len(bank)) // block % _EVERY == _EVERY - 1
    return bank[~held_out], bank[held_out]


def render_clips(
    out: Path, banks: tuple[Tensor, Tensor], config: MomentsConfig, counts: tuple[int, int], processes: int
) -> None:
    """Write `out`: so many clips to train on and to evaluate on, over two banks, as many of each class."""
    kept: dict[str, dict[str, Tensor]] = {}
    for seed, (part, bank, count) in enumerate(zip(("train", "held_out"), banks, counts, strict=True)):
        # Forked, so that each process has the bank without a copy of its own.
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, fork, _begin, (bank, config)) as pool:
            columns = zip(*pool.map(_render, ((seed, i) for i in range(-(-count // _TOGETHER)))), strict=True)
            tensors = [torch.from_numpy(np.concatenate(column)[:count]) for column in columns]
        kept[part] = dict(zip(MomentsBatch._fields, tensors, strict=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    torch.save(kept, partial)
    partial.replace(out)


def _begin(bank: Tensor, config: MomentsConfig) -> None:
    global _camera
    torch.set_num_threads(1)
    _camera = bank, config


def _render(key: tuple[int, int]) -> list[NDArray[Any]]:
    assert _camera is not None
    camera = Moments(*_camera, int(generator_for(*key).initial_seed()))
    return [column.numpy() for column in camera.batch(torch.arange(_TOGETHER) % len(MOMENT_LABELS))]


class KeptClips:
    """Clips of a file as a source of training: each once an epoch, in an order and symmetry that depend on the seed.

    The clips to train on lie on `device`, those to evaluate on in the file.
    """

    labels = MOMENT_LABELS
    multi_label = False

    def __init__(self, file: Path, device: torch.device) -> None:
        parts = {name: MomentsBatch(**part) for name, part in torch.load(file, mmap=True).items()}
        self._train = MomentsBatch(*(tensor.to(device) for tensor in parts["train"]))
        self.evaluated = parts["held_out"]
        self.seed = 0
        self._device = device
        self._order: tuple[tuple[int, int], Tensor] = ((-1, -1), torch.empty(0))

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `service.training.sources.Source`."""
        count = len(self._train.labels)
        places = torch.tensor([self._place(*divmod(step * size + at, count)) for at in range(first, last)])
        places = places.to(self._device)
        clips, labels, cut = (column[places] for column in (self._train.clips, self._train.labels, self._train.cut))
        turned = randomly_turned(clips, labels, cut, generator_for(self.seed, step, first))
        return _examples(*turned)

    def _place(self, epoch: int, position: int) -> int:
        if self._order[0] != (self.seed, epoch):
            order = torch.randperm(len(self._train.labels), generator=generator_for(self.seed, epoch))
            self._order = (self.seed, epoch), order
        return int(self._order[1][position])

    def held_out(self) -> list[Examples]:
        """See `service.training.sources.Source`."""
        return [_examples(self.evaluated.clips, self.evaluated.labels, self.evaluated.cut)]


def _examples(clips: Tensor, labels: Tensor, cut: Tensor) -> Examples:
    return Examples(clips, F.one_hot(labels, len(MOMENT_LABELS)).float(), cut)
