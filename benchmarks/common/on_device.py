"""A worker whose backend runs exported files on a device, as Triton's instances do, where no Triton has the GPU.

python -m benchmarks.common.on_device REPOSITORY DEVICE INSTANCES
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.fixed import serve
from service.contracts import ModelSpec
from service.errors import BackendFailed
from service.inference.backend import Clips, Scores, checked_scores, served_order
from service.inference.registry import ModelFile, scan_repository
from service.inference.torchscript_archive import load_archive


def on_device(file: ModelFile, device: str) -> Any:
    """The module of a file, in eval mode on the device."""
    return load_archive(file.path).to(device)


def forward(module: Any, clips: torch.Tensor, device: str) -> list[torch.Tensor]:
    """Outputs on the CPU of uint8 clips on the CPU, without the profiling executor, as Triton is told to run it."""
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        if device == "cpu":
            return list(module(clips))
        outputs = module(clips.pin_memory().to(device, non_blocking=True))
        return [output.cpu() for output in outputs]


class OnDevice:
    """A `service.inference.backend.Backend` over `instances` threads, each with a stream of its own."""

    def __init__(self, repository: Path, device: str, instances: int) -> None:
        self._files = scan_repository(repository)
        self._device = device
        self._threads = ThreadPoolExecutor(instances)
        self._modules: dict[tuple[str, str], Any] = {}

    async def start(self) -> None:
        """Load and warm up every model."""
        if self._device == "cpu":
            torch.set_num_threads(1)
        for file in self._files:
            module = on_device(file, self._device)
            self._modules[file.spec.name, file.spec.version] = module
            size = file.spec.max_batch_size
            forward(module, torch.zeros((size, *file.spec.clip_shape), dtype=torch.uint8), self._device)

    async def models(self) -> list[ModelSpec]:
        """The models of the repository."""
        return sorted((file.spec for file in self._files), key=served_order)

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """Scores, computed on a thread."""
        for spec in await self.models():
            if (spec.name, spec.version) == (model, version):
                break
        else:
            raise BackendFailed(f"Model {model!r} version {version} is not served.")
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._threads, self._forward, self._modules[model, version], clips)
        return checked_scores(spec, dict(zip(spec.outputs, outputs, strict=True)), len(clips))

    def _forward(self, module: Any, clips: Clips) -> list[np.ndarray]:
        stream = contextlib.nullcontext() if self._device == "cpu" else torch.cuda.stream(torch.cuda.Stream())
        with stream:
            return [output.numpy() for output in forward(module, torch.from_numpy(clips), self._device)]

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()


def command(repository: Path, device: str, instances: int) -> list[str]:
    """The command of a worker process of this module."""
    return [sys.executable, "-m", "benchmarks.common.on_device", str(repository), device, str(instances)]


def main() -> None:
    """Run until stopped."""
    repository, device, instances = sys.argv[1:]
    serve(OnDevice(Path(repository), device, int(instances)))


if __name__ == "__main__":
    main()
