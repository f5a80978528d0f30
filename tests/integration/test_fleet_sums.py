"""The sums over the live workers change with them, beside workers of the release before, which are in none."""

import asyncio
import random
import time

import pytest
from redis.asyncio import Redis

from service.contracts import BreakerState, ModelSpec, WorkerStatus
from service.queue.clip_routes import route_of
from service.queue.fleet import Fleet
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from testing.factories import spec
from tests.fixtures.replies import mapping

SPEC = spec()
STATES: tuple[BreakerState, ...] = ("closed", "half_open", "open")


def status(worker: str, breaker: BreakerState = "closed", rate: float = 0.0) -> WorkerStatus:
    return WorkerStatus(
        worker=worker,
        models=("tiny:1",),
        routes=(route_of(SPEC),),
        breaker=breaker,
        retry_in_s=1.5,
        clips_per_s={"tiny": rate} if rate else {},
    )


async def sums(redis: Redis, keys: RedisKeys) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in mapping(await redis.hgetall(keys.fleet_sums)).items()}


async def announced_by_the_release_before(redis: Redis, keys: RedisKeys, said: WorkerStatus, spec: ModelSpec) -> None:
    """What its workers write with each heartbeat."""
    until = time.time() + 10
    await redis.set(keys.worker(said.worker), said.model_dump_json(), px=10_000)
    await redis.zadd(keys.workers, {said.worker: until})
    await redis.set(keys.model(spec.name, spec.version), spec.model_dump_json(exclude={"route"}), px=10_000)
    await redis.zadd(keys.models, {f"{spec.name}:{spec.version}": until})


async def test_however_workers_come_and_go_the_sums_are_those_over_the_live_ones(directory: ModelDirectory) -> None:
    draw, live = random.Random(0), dict[str, WorkerStatus]()
    for _ in range(150):
        name = f"w{draw.randrange(6)}"
        if name in live and draw.random() < 0.3:
            await directory.withdraw(name)
            del live[name]
        else:
            live[name] = status(name, draw.choice(STATES), draw.choice([0.0, 1.25, 33.4]))
            assert await directory.announce([SPEC], live[name], 60) == len(live)
        _, fleet = await directory.live()
        assert dict(fleet.sums) == dict(Fleet.of(live.values()).sums)
    assert sorted(await directory.workers(), key=lambda worker: worker.worker) == [live[name] for name in sorted(live)]


async def test_an_announcement_changes_the_sums_in_its_own_step(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    for said in (status("a"), status("a", "open"), status("b")):
        await directory.announce([SPEC], said, 60)
    assert await sums(redis, keys) == Fleet.of([status("a", "open"), status("b")]).sums
    await directory.withdraw("a")
    assert await sums(redis, keys) == Fleet.of([status("b")]).sums
    assert [bool(await redis.exists(keys.worker(name))) for name in ("a", "b")] == [False, True]


async def test_a_worker_that_never_announced_itself_may_be_withdrawn(directory: ModelDirectory) -> None:
    await directory.announce([SPEC], status("a"), 60)
    await directory.withdraw("stranger")
    assert len((await directory.live())[1]) == 1


async def test_a_worker_whose_engine_answers_does_not_prolong_what_others_said_of_theirs(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([SPEC], status("a", "open"), 60)
    await redis.expire(keys.fleet_retries, 10)
    await directory.announce([SPEC], status("b"), 60)
    assert 0 < await redis.ttl(keys.fleet_retries) <= 10


async def test_workers_that_fall_silent_leave_the_sums_a_hundred_at_a_time(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    for number in range(150):
        await directory.announce([SPEC], status(f"w{number}"), 60)
    silent = dict.fromkeys([f"w{number}" for number in range(149)], time.time() - 1)
    await redis.zadd(keys.fleet, silent)
    assert [len((await directory.live())[1]) for _ in range(2)] == [50, 1]
    assert await redis.zcard(keys.workers) == 1
    await directory.withdraw("w149")
    assert not await redis.exists(keys.fleet, keys.fleet_shares, keys.fleet_sums, keys.workers)


async def test_a_worker_of_the_release_before_counts_until_its_announcement_ends(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await directory.announce([SPEC], status("new", rate=2.0), 60)
    old = WorkerStatus(worker="old", models=("tiny:1",), clips_per_s={"tiny": 3.0})
    await announced_by_the_release_before(redis, keys, old, SPEC)
    _, fleet = await directory.live()
    assert (len(fleet), fleet.drain_rate("tiny")) == (2, 5.0)
    await redis.delete(keys.worker("old"))
    _, fleet = await directory.live()
    assert (len(fleet), fleet.drain_rate("tiny")) == (1, 2.0)
    assert await redis.zrange(keys.workers, 0, -1) == [b"new"]


@pytest.mark.parametrize("lost", ["sums", "shares"])
async def test_sums_that_do_not_fit_the_workers_are_made_anew(
    directory: ModelDirectory, redis: Redis, keys: RedisKeys, lost: str
) -> None:
    said = [status("a", rate=1.0), status("b", "open")]
    for one in said:
        await directory.announce([SPEC], one, 60)
    await redis.delete(keys.fleet_sums if lost == "sums" else keys.fleet_shares)
    if lost == "shares":
        # Their next heartbeats bring them back.
        for one in said:
            await directory.announce([SPEC], one, 60)
    _, fleet = await directory.live()
    assert dict(fleet.sums) == dict(Fleet.of(said).sums)


async def test_an_engine_that_is_away_is_tried_again_when_its_worker_said(directory: ModelDirectory) -> None:
    await directory.announce([SPEC], status("a", "open"), 60)
    await asyncio.sleep(0.01)
    [served], fleet = await directory.live()
    away_s = fleet.engine_away_s(served)
    assert away_s is not None
    assert 0 < away_s < 1.5
    await directory.announce([SPEC], status("b"), 60)
    assert (await directory.live())[1].engine_away_s(served) is None
