import asyncio
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobState, ModelSpec, WorkerStatus
from service.errors import BackendUnavailable, DeadlineExceeded, QueueUnavailable, UnknownModel
from service.local.redis import LocalRedis
from service.queue.clip_routes import masked_route_of, route_of
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from testing.factories import record, spec
from tests.fixtures.replies import members

STATUS = WorkerStatus(worker="one")


async def test_an_announced_model_is_listed_as_it_is(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 10)
    assert await directory.list() == [spec(route=route_of(spec()))]


async def test_the_newest_version_is_the_default_one(directory: ModelDirectory) -> None:
    await directory.announce([spec(version=v) for v in ("9", "10", "2")], STATUS, 10)
    assert (await directory.resolve("tiny", None)).version == "10"
    assert (await directory.resolve("tiny", "2")).version == "2"


async def test_a_model_vanishes_with_its_last_worker(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 0.05)
    await asyncio.sleep(0.1)
    assert await directory.list() == []


async def test_without_any_worker_the_backend_is_unavailable(directory: ModelDirectory) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await directory.resolve("tiny", None)
    assert caught.value.retry_after_s


async def test_an_unknown_model_is_named_beside_those_that_are_served(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 10)
    with pytest.raises(UnknownModel, match=r"'huge' is not served. Served now: tiny version 1"):
        await directory.resolve("huge", None)
    with pytest.raises(UnknownModel, match=r"'tiny' in version 7"):
        await directory.resolve("tiny", "7")


async def test_a_worker_says_how_it_does_until_it_withdraws(directory: ModelDirectory) -> None:
    status = WorkerStatus(worker="one", breaker="open", retry_in_s=1.5, clips_per_s={"tiny": 12.0})
    await directory.announce([spec()], status, 10)
    assert await directory.workers() == [status]
    await directory.withdraw("one")
    assert await directory.workers() == []


async def test_a_worker_that_falls_silent_is_forgotten(directory: ModelDirectory) -> None:
    await directory.announce([spec()], STATUS, 0.05)
    await asyncio.sleep(0.06)
    assert await directory.workers() == []


def serving(worker: str, *specs: ModelSpec) -> WorkerStatus:
    return WorkerStatus(worker=worker, routes=tuple(map(route_of, specs)))


async def announced_by_an_earlier_release(redis: Redis, keys: RedisKeys, served: ModelSpec, until: float) -> None:
    """What workers of the release before routes write with a heartbeat, by a clock of their own."""
    name = f"{served.name}:{served.version}"
    await redis.set(f"{keys.models}:{name}", served.model_dump_json(exclude={"route"}), px=10_000)
    await redis.zadd(keys.models, {name: until})


async def test_other_weights_of_one_version_do_not_hide_each_other(directory: ModelDirectory) -> None:
    one, other = spec(weights_sha256="a" * 64), spec(weights_sha256="b" * 64, labels=("up", "down"))
    await directory.announce([one], serving("one", one), 10)
    await directory.announce([other], serving("two", other), 10)
    found = await directory.list()
    assert [(s.weights_sha256, s.labels) for s in found] == [(s.weights_sha256, s.labels) for s in (one, other)]


async def test_of_several_weights_those_of_most_workers_are_picked(directory: ModelDirectory) -> None:
    one, other = spec(weights_sha256="a" * 64), spec(weights_sha256="b" * 64)
    await directory.announce([one], serving("one", one), 10)
    for worker in ("two", "three"):
        await directory.announce([other], serving(worker, other), 10)
    assert (await directory.resolve("tiny", None)).route == route_of(other)


async def test_what_only_an_earlier_release_serves_has_no_route(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    new, old = spec(version="2"), spec(version="1")
    await directory.announce([new], STATUS, 10)
    await announced_by_an_earlier_release(redis, keys, old, time.time() + 10)
    assert [(s.version, s.route) for s in await directory.list()] == [("2", route_of(new)), ("1", "")]


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_an_earlier_release_is_seen_whatever_its_clock_says(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys, skew_s: float
) -> None:
    await announced_by_an_earlier_release(redis, keys, spec(), time.time() + skew_s)
    assert await directory.list() == [spec()]


async def test_an_earlier_release_finds_what_is_announced(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([spec()], STATUS, 10)
    assert await redis.zrangebyscore(keys.models, time.time(), "+inf") == [b"tiny:1"]
    assert await redis.zrangebyscore(keys.workers, time.time(), "+inf") == [b"one"]
    assert await redis.get(f"{keys.models}:tiny:1") == spec().model_dump_json(exclude={"route"}).encode()


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_no_clock_but_that_of_redis_decides_what_is_live(
    directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    await directory.announce([spec()], STATUS, 10)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + skew_s)
    assert len(await directory.list()) == len(await directory.workers()) == 1


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_a_redis_that_is_out_of_memory_still_sets_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + skew_s)
    with LocalRedis(tmp_path, persist=False) as server:
        redis = connect(server.url, name="full")
        await redis.config_set("maxmemory", 1)
        directory = ModelDirectory(redis, RedisKeys("full"))
        with pytest.raises(QueueUnavailable, match="memory limit"):
            await directory.announce([spec()], STATUS, 10)
        assert await directory.clock.time() == pytest.approx(now, abs=60)
        await redis.aclose()


async def test_names_of_those_that_are_gone_leave_the_indexes(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([spec()], STATUS, 0.02)
    await asyncio.sleep(0.04)
    await directory.live()
    assert await redis.zcard(keys.models) == await redis.zcard(keys.workers) == 0


async def test_the_streams_of_a_route_that_is_gone_are_still_found(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([spec()], STATUS, 0.02)
    await asyncio.sleep(0.04)
    assert await directory.list() == []
    found = {name.decode() for name in members(await redis.zrange(keys.routes, 0, -1))}
    assert found == {route_of(spec()), masked_route_of(spec()), "tiny"}


async def test_a_stream_that_nobody_reads_goes_once_its_jobs_are_over(
    directory: ModelDirectory, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    served = spec(route=route_of(spec()))
    jobs = [record(spec=served, job_class=job_class) for job_class in JobClass]
    for job in jobs:
        await store.accept(job)
    streams = [keys.clips(served.route, job_class) for job_class in JobClass]
    await store.finish(jobs[0].id, Outcome(JobState.EXPIRED, error=DeadlineExceeded("late")))
    await directory.clear()
    assert [await redis.xlen(stream) for stream in streams] == [0, 1]
    await store.finish(jobs[1].id, Outcome(JobState.EXPIRED, error=DeadlineExceeded("late")))
    await directory.clear()
    assert await redis.exists(*streams) == await redis.zcard(keys.routes) == 0


async def test_the_stream_of_a_model_goes_whose_name_alone_is_left(
    directory: ModelDirectory, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    await redis.zadd(keys.models, {"tiny:1": time.time() + 10})
    job = record()
    await store.accept(job)
    await store.finish(job.id, Outcome(JobState.EXPIRED, error=DeadlineExceeded("late")))
    await directory.clear()
    assert not await redis.exists(keys.clips("tiny", JobClass.INTERACTIVE))


async def test_streams_that_a_live_worker_reads_stay(
    directory: ModelDirectory, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([spec()], STATUS, 10)
    for route in (route_of(spec()), "tiny"):
        await stream.join([route])
    await directory.clear()
    assert len([1 for route in (route_of(spec()), "tiny") if await redis.exists(keys.clips(route, JobClass.BULK))]) == 2


async def test_the_stream_of_a_name_stays_while_an_earlier_release_reads_it(
    directory: ModelDirectory, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    await announced_by_an_earlier_release(redis, keys, spec(), time.time() + 10)
    job = record()
    await store.accept(job)
    await store.finish(job.id, Outcome(JobState.EXPIRED, error=DeadlineExceeded("late")))
    await directory.clear()
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == 1


async def test_a_model_that_takes_420_is_not_told_to_processes_that_would_send_rgb(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    yuv420 = spec(name="half", clip_format="yuv420")
    await directory.announce([spec(), yuv420], STATUS, 10)
    assert await directory.resolve("half", None) == yuv420.model_copy(update={"route": route_of(yuv420)})
    assert await redis.zrange(keys.models, 0, -1) == [b"tiny:1"], "all that the release before routes reads"
