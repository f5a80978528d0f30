"""Generated clips that other processes render while the network trains."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from service.training.camera_motion.living import Living, read_living
from service.training.camera_motion.mixed_moves import MixedMoves, MovesBatch, MovesConfig
from service.training.camera_motion.real_windows import RealWindows, read_real_windows
from service.training.config import MovesData

Key = tuple[int, int]
"""The seed of a batch and its number of clips: what it looks like depends on nothing else."""


class _World(NamedTuple):
    bank: Tensor
    living: Living | None
    config: MovesConfig
    real: RealWindows | None


_worlds: list[_World] = []
"""Of a renderer, what its cameras look at."""


class RenderAhead:
    """Processes that render batches before they are asked for, the same ones that this process would render."""

    def __init__(self, processes: int, bank: Tensor, data: MovesData, config: MovesConfig) -> None:
        self.processes = processes
        self._begun: dict[Key, Future[tuple[np.ndarray, ...]]] = {}
        # A file that all of them map.
        folder = Path(tempfile.mkdtemp(prefix="vidtr-renderers-"))
        torch.save(bank, folder / "bank.pt")
        # Not forked: the training process has threads, and a GPU's state.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, context, _begin, (folder / "bank.pt", data, config))
        weakref.finalize(self, _end, self._pool, folder)

    def batch(self, key: Key, next_keys: Sequence[Key]) -> MovesBatch:
        """The batch of a key; those of the keys that come next are begun."""
        for each in (key, *next_keys):
            if each not in self._begun:
                self._begun[each] = self._pool.submit(_render, each)
        return MovesBatch(*map(torch.from_numpy, self._begun.pop(key).result()))


def _end(pool: ProcessPoolExecutor, folder: Path) -> None:
    pool.shutdown(cancel_futures=True)
    shutil.rmtree(folder, ignore_errors=True)


def _begin(bank: Path, data: MovesData, config: MovesConfig) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    living = read_living(data.scenes) if data.scenes else None
    real = read_real_windows(data.real_windows) if data.real_windows else None
    _worlds[:] = [_World(torch.load(bank, weights_only=True, mmap=True), living, config, real)]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # It was killed: nobody is left who would ask for a clip, or end this process.
        os._exit(1)


def _render(key: Key) -> tuple[np.ndarray, ...]:
    [world] = _worlds
    seed, size = key
    made = MixedMoves(world.bank, world.living, world.config, seed, world.real).batch(size)
    # Tensors would travel through shared memory, which is small in many containers.
    return tuple(tensor.numpy() for tensor in made)
