"""Clips that are stored before their job is accepted belong to its reservation, whatever ends the upload."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass
from service.errors import QueueUnavailable, UnknownJob
from service.local.redis import LocalRedis
from service.queue.capacity import QueueCapacity, Reservation
from service.queue.connection import connect
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record, spec
from tests.fixtures.keyspace import names_like
from tests.integration.conftest import TIMES
from tests.integration.test_capacity import limits

SPEC = spec()
CLIPS = memoryview(clip(0) + clip(1) + clip(2))


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips go ahead of their job, however small they are."""
    monkeypatch.setattr("service.queue.job_intake.TOGETHER_BYTES", 0)


@pytest.fixture
def capacity(redis: Redis, keys: RedisKeys) -> QueueCapacity:
    return QueueCapacity(redis, keys, limits())


def reservation(job_id: str) -> Reservation:
    return Reservation(job_id, JobClass.INTERACTIVE, 3, SPEC.clip_bytes, SPEC.name, "key:app")


async def stored(redis: Redis, keys: RedisKeys) -> int:
    return len(await names_like(redis, f"{keys.prefix}:clip:*"))


async def test_clips_of_an_upload_that_ends_before_its_job_leave_with_its_room(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    await capacity.reserve(reservation("a"), [SPEC], None, 60.0)
    await store.put_payloads("a", CLIPS, SPEC.clip_bytes)
    await capacity.release(reservation("a"))
    assert (await stored(redis, keys), await redis.zcard(keys.reserved)) == (0, 0)


async def test_a_cancelled_put_writes_nothing_once_it_is_over(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.job_intake.PIPELINE_BYTES", SPEC.clip_bytes)
    putting = asyncio.create_task(store.put_payloads("a", memoryview(clip(0) * 200), SPEC.clip_bytes))
    while not await stored(redis, keys):
        await asyncio.wait({putting}, timeout=0)
    putting.cancel()
    await asyncio.wait({putting})
    await capacity.release(Reservation("a", JobClass.BULK, 200, SPEC.clip_bytes, SPEC.name))
    await asyncio.sleep(0.1)
    assert await stored(redis, keys) == 0


async def test_clips_that_nobody_accepts_or_releases_live_no_longer_than_their_reservation(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object, **__: object) -> None:
        raise QueueUnavailable("the api has crashed")

    store = JobStore(redis, keys, TIMES)
    monkeypatch.setattr(store, "_accept", lost)
    job = record(decoded=decoded(windows=3))
    with pytest.raises(QueueUnavailable):
        await store.accept(job, clips=CLIPS)
    lives = [await redis.ttl(keys.payload(job.id, i)) for i in range(3)]
    assert all(0 < life <= TIMES.reservation_ttl_s for life in lives)


async def test_clips_of_an_accepted_job_live_as_long_as_it_may_take(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=3))
    await store.accept(job, clips=CLIPS)
    lives = [await redis.ttl(keys.payload(job.id, i)) for i in range(3)]
    assert all(TIMES.reservation_ttl_s < life <= TIMES.payload_ttl_s for life in lives)


async def test_no_job_is_made_whose_clips_have_lapsed(
    store: JobStore, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put_payloads

    async def put_and_stall(*args: object) -> None:
        await put(*args)  # type: ignore[arg-type]
        await redis.delete(keys.payload(job.id, 1))

    monkeypatch.setattr(store, "put_payloads", put_and_stall)
    job = record(decoded=decoded(windows=3))
    with pytest.raises(QueueUnavailable, match="delayed"):
        await store.accept(job, clips=CLIPS)
    with pytest.raises(UnknownJob):
        await store.status(job.id)
    assert not await redis.exists(keys.clips("tiny", JobClass.INTERACTIVE))


async def test_a_renewal_keeps_room_and_clips_and_brings_back_room_that_has_lapsed(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    await store.put_payloads("a", CLIPS, SPEC.clip_bytes, life_s=1.0)
    await capacity.renew([reservation("a")])
    assert await redis.zscore(keys.reserved, reservation("a").member) is not None
    assert await redis.ttl(keys.payload("a", 2)) > 1


async def test_a_renewal_that_comes_after_the_job_changes_nothing(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=3))
    await store.accept(job, clips=CLIPS, reservation=reservation(job.id))
    await capacity.renew([reservation(job.id)])
    await capacity.release(reservation(job.id))
    assert await redis.zcard(keys.reserved) == 0
    assert await stored(redis, keys) == 3
    assert await redis.ttl(keys.payload(job.id, 0)) > TIMES.reservation_ttl_s


async def test_a_full_redis_that_refuses_a_job_is_rid_of_its_clips(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        redis, keys = connect(server.url, name="full"), RedisKeys("full")
        store, capacity = JobStore(redis, keys, TIMES), QueueCapacity(redis, keys, limits())
        job = record(decoded=decoded(windows=3))
        await capacity.reserve(reservation(job.id), [SPEC], None, 60.0)
        await store.put_payloads(job.id, CLIPS, SPEC.clip_bytes, life_s=20.0)
        await redis.config_set("maxmemory", "500kb")
        with pytest.raises(QueueUnavailable, match="memory limit"):
            await store.accept(job, reservation=reservation(job.id))
        await capacity.release(reservation(job.id))
        assert (await stored(redis, keys), await redis.zcard(keys.reserved)) == (0, 0)
        await redis.aclose()
