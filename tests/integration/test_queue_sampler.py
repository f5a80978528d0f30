"""The gauges of the queue, as they are read from a real Redis."""

import math
from pathlib import Path

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from service.api.queue_sampler import QueueSampler
from service.contracts import BreakerState, JobClass, WorkerStatus
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, PerPartition
from service.queue.redis_keys import RedisKeys
from testing.factories import decoded, record, spec


def shown(name: str, **labels: str) -> float | None:
    """The value of a gauge; None where it has never been set."""
    return REGISTRY.get_sample_value(name, labels)


async def announce(directory: ModelDirectory, worker: str, breaker: BreakerState) -> None:
    """Let a worker say that it serves the model `sampled`."""
    status = WorkerStatus(worker=worker, models=("sampled:1",), breaker=breaker)
    await directory.announce([spec(name="sampled")], status, ttl_s=60)


async def test_what_waits_is_shown_by_class(
    redis: Redis, keys: RedisKeys, store: JobStore, directory: ModelDirectory
) -> None:
    served = spec(name="sampled")
    await announce(directory, "one", "closed")
    await store.accept(record(spec=served))
    await store.accept(record(spec=served, decoded=decoded(windows=3), job_class=JobClass.BULK))
    await QueueSampler(
        PerPartition([Partition(redis, keys)]), LiveModels(PerPartition([directory])), interval_s=60
    ).sample()
    for job_class, clips in ("interactive", 1), ("bulk", 3):
        labels = {"model": "sampled", "class": job_class}
        assert shown("vidtr_queue_clips", **labels) == clips
        assert shown("vidtr_queue_bytes", **labels) == clips * served.clip_bytes
        assert 0 <= (shown("vidtr_queue_oldest_seconds", **labels) or 0) < 60


async def test_workers_are_counted_by_the_state_of_their_breaker(
    redis: Redis, keys: RedisKeys, directory: ModelDirectory
) -> None:
    breakers: dict[str, BreakerState] = {"one": "open", "two": "open", "three": "closed"}
    for worker, breaker in breakers.items():
        await announce(directory, worker, breaker)
    await QueueSampler(
        PerPartition([Partition(redis, keys)]), LiveModels(PerPartition([directory])), interval_s=60
    ).sample()
    assert [shown("vidtr_workers", breaker=state) for state in ("closed", "half_open", "open")] == [1, 0, 2]


async def test_while_redis_is_away_nothing_is_claimed_about_the_queue(tmp_path: Path, keys: RedisKeys) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        client = connect(server.url, name="sampler")
        directory = ModelDirectory(client, keys)
        sampler = QueueSampler(
            PerPartition([Partition(client, keys)]), LiveModels(PerPartition([directory])), interval_s=60
        )
        await announce(directory, "one", "closed")
        await sampler.sample()
        assert shown("vidtr_redis_up") == shown("vidtr_workers", breaker="closed") == 1
    await sampler.sample()
    await client.aclose()
    assert shown("vidtr_redis_up") == 0
    for gauge in (
        shown("vidtr_workers", breaker="closed"),
        shown("vidtr_queue_clips", model="sampled", **{"class": "bulk"}),
    ):
        assert gauge is not None
        assert math.isnan(gauge)


async def test_a_redis_that_takes_no_writes_is_not_up(tmp_path: Path, keys: RedisKeys) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        client = connect(server.url, name="sampler")
        sampler = QueueSampler(
            PerPartition([Partition(client, keys)]),
            LiveModels(PerPartition([ModelDirectory(client, keys)])),
            interval_s=60,
        )
        # It waits for a replica that never comes, and answers everything but writes.
        await client.config_set("min-replicas-to-write", 1)
        await sampler.sample()
        assert shown("vidtr_redis_up") == 0
        await client.config_set("min-replicas-to-write", 0)
        await sampler.sample()
        assert shown("vidtr_redis_up") == 1
        await client.aclose()
