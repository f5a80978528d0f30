"""Where the result of an upload is looked for, on a real Redis."""

from redis.asyncio import Redis

from service.aggregate import aggregate
from service.contracts import JobRecord, JobState
from service.errors import BackendFailed
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.partitions import Partition, PerPartition
from service.queue.redis_keys import RedisKeys
from service.queue.result_cache import ResultCache
from testing.factories import record, scores, spec


def cache(redis: Redis, keys: RedisKeys, store: JobStore) -> ResultCache:
    return ResultCache(PerPartition([Partition(redis, keys)]), PerPartition([store]), life_s=60)


async def accepted(store: JobStore, found: ResultCache) -> tuple[JobRecord, str]:
    """A job and its place in the cache."""
    job = record()
    same = found.key("alice", spec(), "fingerprint")
    await store.accept(job, cache_key=same)
    await found.remember(same, job.id)
    return job, same


async def succeed(store: JobStore, job: JobRecord) -> None:
    """Let the job end with a result."""
    result = aggregate(job, spec(), [scores()], job.created_at)
    await store.finish(job.id, Outcome(JobState.SUCCEEDED, result=result))


async def test_a_job_is_found_once_it_has_succeeded(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    found = cache(redis, keys, store)
    job, same = await accepted(store, found)
    assert await found.find(same) is None
    await succeed(store, job)
    status = await found.find(same)
    assert status is not None
    assert status.id == job.id
    assert 0 < await redis.ttl(same) <= 60


async def test_a_job_that_has_failed_is_not_found(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    found = cache(redis, keys, store)
    job, same = await accepted(store, found)
    await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("a test")))
    assert await found.find(same) is None


async def test_erasing_a_job_erases_its_place(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    found = cache(redis, keys, store)
    job, same = await accepted(store, found)
    await succeed(store, job)
    await store.cancel(job.id)
    assert await redis.exists(same) == 0


def test_owner_model_version_weights_thresholds_and_upload_each_have_a_place_of_their_own(
    redis: Redis, keys: RedisKeys, store: JobStore
) -> None:
    found = cache(redis, keys, store)
    places = {
        found.key("alice", spec(), "a"),
        found.key("bob", spec(), "a"),
        found.key("alice", spec(name="other"), "a"),
        found.key("alice", spec(version="2"), "a"),
        found.key("alice", spec(weights_sha256="1" * 64), "a"),
        found.key("alice", spec(activation="sigmoid", thresholds=(0.5, 0.5, 0.5, 0.5)), "a"),
        found.key("alice", spec(activation="sigmoid", thresholds=(0.5, 0.5, 0.5, 0.6)), "a"),
        found.key("alice", spec(), "b"),
    }
    assert len(places) == 8


async def test_answers_of_another_arithmetic_are_other_answers(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    found = cache(redis, keys, store)
    places = {found.key("alice", spec(arithmetic=one), "fingerprint") for one in (None, "bf16", "int8")}
    assert len(places) == 3
