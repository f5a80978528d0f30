"""The models of the benchmarks: a shipped one, or a preset with random weights, alone in a repository."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.inference.cpu import optimize_for_cpu
from service.inference.microbatch import microbatch
from service.inference.registry import ModelFile, scan_repository
from service.inference.torchscript_archive import load_archive
from service.model.presets import PRESETS, export_preset

SHIPPED = Path("model_repository")
NAMES = ("camera_motion", *PRESETS)

Forward = Callable[[Tensor], Any]


def model_of(name: str, repository: Path) -> ModelFile:
    """The model `name` as the only one of `repository`, which is made: a copy of the shipped one, else the preset."""
    repository.mkdir(parents=True, exist_ok=True)
    if (SHIPPED / name).is_dir():
        shutil.copytree(SHIPPED / name, repository / name)
    else:
        export_preset(name, repository)
    return scan_repository(repository)[-1]


def raw(path: Path) -> Forward:
    """The file under plain TorchScript, as anybody would run it: uint8 `[B, T, H, W, 3]` to the four outputs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        return _unprofiled(torch.jit.load(str(path)).eval())


def as_served(path: Path) -> Forward:
    """The file as the in-process backend runs it."""
    return _unprofiled(microbatch(optimize_for_cpu(load_archive(path))))


def _unprofiled(forward: Forward) -> Forward:
    def run(clips: Tensor) -> Any:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return forward(clips)

    return run


def rate(forward: Forward, clips: Tensor, batch: int) -> float:
    """Clips per second of a forward over `clips` in batches, nothing beside it."""
    began = time.perf_counter()
    for first in range(0, len(clips), batch):
        forward(clips[first : first + batch])
    return len(clips) / (time.perf_counter() - began)


def cpu_s_per_clip(forward: Forward, clips: Tensor, batch: int) -> float:
    """CPU seconds of one clip."""
    began = time.process_time()
    for first in range(0, len(clips), batch):
        forward(clips[first : first + batch])
    return (time.process_time() - began) / len(clips)
