"""A worker whose backend takes a fixed time for every batch, whatever is in it: what is measured is everything else.

python -m benchmarks.common.fixed SERVICE_S BATCH FRAMES PIXELS NAME CLIP_FORMAT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import numpy as np

from service.contracts import ClipFormat, ModelSpec
from service.inference.backend import Backend, Clips, Scores
from service.queue.dead_letters import DeadLetterConfig
from service.queue.job_intake import JobTtlConfig
from service.queue.partitions import QueueAddress
from service.settings import Settings
from service.telemetry import logs, metrics
from service.worker.config import WorkerConfig
from service.worker.run import run_worker
from service.worker.watchdog import Watchdog

LABELS = 400


def fixed_spec(batch: int, frames: int, pixels: int, name: str = "fixed", clip_format: ClipFormat = "rgb") -> ModelSpec:
    """A model of square clips of `frames` pictures of `pixels` x `pixels`."""
    return ModelSpec(
        name=name,
        version="1",
        form="fixed",
        trained=False,
        weights_sha256="0" * 64,
        labels=tuple(f"label {i}" for i in range(LABELS)),
        activation="softmax",
        frames=frames,
        frame_step=1,
        reference_fps=25.0,
        sampling="time",
        height=pixels,
        width=pixels,
        resize_short_side=pixels,
        resize="swscale_bilinear",
        layers=1,
        max_batch_size=batch,
        clip_format=clip_format,
    )


class FixedTime:
    """A `service.inference.backend.Backend` that sleeps."""

    def __init__(self, spec: ModelSpec, service_s: float) -> None:
        self._spec = spec
        self._service_s = service_s

    async def start(self) -> None:
        """Nothing to do."""

    async def models(self) -> list[ModelSpec]:
        """The one model."""
        return [self._spec]

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """Even scores, after the fixed time."""
        await asyncio.sleep(self._service_s)
        count, frames = len(clips), self._spec.frames
        even = np.full((count, frames), 1 / frames, np.float32)
        return Scores(
            np.zeros((count, LABELS), np.float32),
            even,
            even[:, None],
            np.ones_like(even)[:, None],
            np.zeros((count, 0, 0, 0), np.float32),
            np.zeros((count, 0), np.float32),
        )

    async def close(self) -> None:
        """Nothing to do."""


def command(service_s: float, spec: ModelSpec) -> list[str]:
    """The command of a worker process of this module."""
    arguments = (service_s, spec.max_batch_size, spec.frames, spec.height, spec.name, spec.clip_format)
    return [sys.executable, "-m", "benchmarks.common.fixed", *map(str, arguments)]


def serve(backend: Backend) -> None:
    """Run a worker over `backend` until it is stopped; all else comes from the settings, as for any worker."""
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format, "worker")
    watchdog = Watchdog(settings.worker_stall_s)
    if settings.worker_metrics_port:
        metrics.serve(settings.metrics_host, settings.worker_metrics_port, None, watchdog.stalled)
    config, times = settings.subset(WorkerConfig), settings.subset(JobTtlConfig)
    limits = settings.subset(DeadLetterConfig)
    asyncio.run(run_worker(backend, config, settings.subset(QueueAddress), times, limits, watchdog))


def main() -> None:
    """Run until stopped."""
    service_s, batch, frames, pixels, name, clip_format = sys.argv[1:]
    spec = fixed_spec(int(batch), int(frames), int(pixels), name, cast(ClipFormat, clip_format))
    serve(FixedTime(spec, float(service_s)))


if __name__ == "__main__":
    main()
