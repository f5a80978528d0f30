"""The state of the queue as metrics: sampled from Redis, because no process counts it as it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

from service.contracts import BreakerState, JobClass
from service.errors import QueueUnavailable
from service.periodic import Periodic
from service.queue.backlog import Backlog, backlogs
from service.queue.connection import translate_redis_errors
from service.queue.live_models import LiveModels
from service.queue.partitions import Partition, PerPartition, ask_all
from service.queue.write_probe import check_writable
from service.telemetry import metrics

NOTHING = Backlog(0, 0.0)
BREAKER_STATES: tuple[BreakerState, ...] = get_args(BreakerState)


@dataclass(frozen=True)
class _Sample:
    """What one partition holds, and the memory of its server, which may have other partitions too."""

    waiting: dict[str, dict[JobClass, Backlog]]
    server: str
    memory: dict[str, Any]


class QueueSampler:
    """Sets the gauges of the queue every `interval_s`, and whenever `sample` is called.

    They are of the partitions that can be reached. Where none can, they are NaN: an old value would look like a queue
    that stands still.
    """

    def __init__(self, partitions: PerPartition[Partition], models: LiveModels, interval_s: float) -> None:
        self._partitions = partitions
        self._models = models
        self._served: set[tuple[str, str]] = set()
        self._bytes: dict[str, int] = {}
        self._sampling = Periodic("queue-sampler", interval_s, self.sample)

    def start(self) -> None:
        """Begin to sample; call once, in the event loop."""
        self._sampling.start()

    async def close(self) -> None:
        """End after the sample in hand."""
        await self._sampling.close()

    async def sample(self) -> None:
        """Set the gauges now."""
        try:
            await self._sample()
        except QueueUnavailable:
            metrics.REDIS_UP.set(0)
            metrics.PARTITIONS_UP.set(0)
            for gauge in (metrics.REDIS_MEMORY_BYTES, metrics.REDIS_MEMORY_LIMIT_BYTES, metrics.MODELS_SERVED):
                gauge.set(math.nan)
            for state in BREAKER_STATES:
                metrics.WORKERS.labels(state).set(math.nan)
            for model, job_class in product(self._bytes, JobClass):
                for gauge in (metrics.QUEUE_CLIPS, metrics.QUEUE_BYTES, metrics.QUEUE_OLDEST_SECONDS):
                    gauge.labels(model, job_class).set(math.nan)

    async def _sample(self) -> None:
        specs, fleet = await self._models.live()
        samples = await self._of_partitions()
        served = {(spec.name, spec.version) for spec in specs}
        # A model whose workers died is watched on: its queue is the one that grows.
        self._bytes |= {spec.name: spec.clip_bytes for spec in specs}
        for (model, clip_bytes), job_class in product(self._bytes.items(), JobClass):
            found = [sample.waiting.get(model, {}).get(job_class, NOTHING) for sample in samples]
            clips, oldest_s = sum(backlog.clips for backlog in found), max(backlog.oldest_s for backlog in found)
            metrics.QUEUE_CLIPS.labels(model, job_class).set(clips)
            metrics.QUEUE_BYTES.labels(model, job_class).set(clips * clip_bytes)
            metrics.QUEUE_OLDEST_SECONDS.labels(model, job_class).set(oldest_s)
        for name, version in served | self._served:
            metrics.MODEL_SERVED.labels(name, version).set((name, version) in served)
        self._served |= served
        metrics.MODELS_SERVED.set(len(served))
        for state in BREAKER_STATES:
            metrics.WORKERS.labels(state).set(fleet.with_breaker(state))
        metrics.REDIS_UP.set(len(samples) == len(self._partitions))
        metrics.PARTITIONS_UP.set(len(samples))
        servers = {sample.server: sample.memory for sample in samples}.values()
        metrics.REDIS_MEMORY_BYTES.set(sum(memory["used_memory"] for memory in servers))
        metrics.REDIS_MEMORY_LIMIT_BYTES.set(sum(memory["maxmemory"] for memory in servers))

    async def _of_partitions(self) -> Sequence[_Sample]:
        """Those of the partitions that can be reached. Raises QueueUnavailable where none can."""
        found = await ask_all(self._partitions, self._of)
        samples = [sample for sample in found if isinstance(sample, _Sample)]
        if not samples:
            raise next(problem for problem in found if isinstance(problem, QueueUnavailable))
        return samples

    async def _of(self, partition: Partition) -> _Sample:
        server = ""
        await check_writable(partition.redis, partition.keys)
        with translate_redis_errors():
            memory: Any = await partition.redis.info("memory")
            if len(self._partitions) > 1:
                server = (await partition.redis.info("server"))["run_id"]
        return _Sample(await backlogs(partition.redis, partition.keys), server, memory)
