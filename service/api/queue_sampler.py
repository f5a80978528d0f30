"""The state of the queue as metrics: sampled from Redis, because no process counts it as it changes."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, get_args

from redis.asyncio import Redis

from service.contracts import BreakerState, JobClass
from service.errors import QueueUnavailable
from service.periodic import Periodic
from service.queue.backlog import Backlog, backlogs
from service.queue.connection import translate_redis_errors
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from service.queue.write_probe import check_writable
from service.telemetry import metrics

NOTHING = Backlog(0, 0.0)
BREAKER_STATES: tuple[BreakerState, ...] = get_args(BreakerState)


class QueueSampler:
    """Sets the gauges of the queue every `interval_s`, and whenever `sample` is called.

    While Redis is away they are NaN: an old value would look like a queue that stands still.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, directory: ModelDirectory, interval_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._directory = directory
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
            for gauge in (metrics.REDIS_MEMORY_BYTES, metrics.REDIS_MEMORY_LIMIT_BYTES, metrics.MODELS_SERVED):
                gauge.set(math.nan)
            for state in BREAKER_STATES:
                metrics.WORKERS.labels(state).set(math.nan)
            for model, job_class in product(self._bytes, JobClass):
                for gauge in (metrics.QUEUE_CLIPS, metrics.QUEUE_BYTES, metrics.QUEUE_OLDEST_SECONDS):
                    gauge.labels(model, job_class).set(math.nan)

    async def _sample(self) -> None:
        specs, fleet = await self._directory.live()
        await check_writable(self._redis, self._keys)
        with translate_redis_errors():
            memory: Any = await self._redis.info("memory")
        served = {(spec.name, spec.version) for spec in specs}
        # A model whose workers died is watched on: its queue is the one that grows.
        self._bytes |= {spec.name: spec.clip_bytes for spec in specs}
        waiting = await backlogs(self._redis, self._keys)
        for (model, clip_bytes), job_class in product(self._bytes.items(), JobClass):
            clips, oldest_s = waiting.get(model, {}).get(job_class, NOTHING)
            metrics.QUEUE_CLIPS.labels(model, job_class).set(clips)
            metrics.QUEUE_BYTES.labels(model, job_class).set(clips * clip_bytes)
            metrics.QUEUE_OLDEST_SECONDS.labels(model, job_class).set(oldest_s)
        for name, version in served | self._served:
            metrics.MODEL_SERVED.labels(name, version).set((name, version) in served)
        self._served |= served
        metrics.MODELS_SERVED.set(len(served))
        for state in BREAKER_STATES:
            metrics.WORKERS.labels(state).set(fleet.with_breaker(state))
        metrics.REDIS_UP.set(1)
        metrics.REDIS_MEMORY_BYTES.set(memory["used_memory"])
        metrics.REDIS_MEMORY_LIMIT_BYTES.set(memory["maxmemory"])
