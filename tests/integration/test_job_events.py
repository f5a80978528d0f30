import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import pytest
from redis.asyncio import Redis

from service.api.job_event_stream import JobEventStream
from service.api.shares import Shared, Shares
from service.contracts import JobClass, JobState
from service.errors import BackendFailed, QueueFull
from service.queue.clip_stream import ClipStream
from service.queue.clock import Clock
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetters
from service.queue.events import JobEvent, JobEvents
from service.queue.job_store import End, JobStore
from service.queue.partitions import PerPartition
from service.queue.redis_keys import RedisKeys
from service.queue.result_bus import ResultBus
from service.redis_url import hash_tag
from testing.factories import clip, decoded, record, scores
from tests.integration.test_dead_letters import buried

FAILED = Outcome(JobState.FAILED, error=BackendFailed("x"))


@pytest.fixture
def events(redis: Redis, keys: RedisKeys) -> JobEvents:
    return JobEvents(redis, keys)


def streaming(
    redis: Redis,
    events: JobEvents,
    bus: ResultBus,
    draining: Callable[[], bool] = lambda: False,
    places: Shared | None = None,
) -> JobEventStream:
    clocks = PerPartition([Clock(redis)])
    return JobEventStream(PerPartition([events]), PerPartition([bus]), draining, clocks, places)


async def told(events: JobEvents, job_id: str, last_id: str | None = None) -> list[tuple[str, int]]:
    return [(event.state.value, event.clips_done) for event in await events.since(job_id, last_id)]


async def test_every_step_of_a_job_is_an_event(store: JobStore, events: JobEvents) -> None:
    job = record(decoded=decoded(windows=3))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    await store.record_scores({(job.id, 1): scores(), (job.id, 2): scores()})
    await store.finish(job.id, FAILED)
    assert await told(events, job.id) == [("queued", 0), ("running", 1), ("running", 3), ("failed", 3)]


async def test_a_job_that_is_scored_and_finished_in_one_step_has_the_same_events_and_leaves_nothing(
    store: JobStore, events: JobEvents, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job, clips=memoryview(2 * clip(0)))
    entries = await stream.read(["tiny"], 8, 10)
    assert await store.finish_all([End(job.id, FAILED, entries, recorded=False)]) == [True]
    assert await told(events, job.id) == [("queued", 0), ("running", 2), ("failed", 2)]
    assert not await redis.exists(keys.payload(job.id, 0), keys.payload(job.id, 1))
    assert not await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE))


async def test_what_is_repeated_is_told_once(store: JobStore, events: JobEvents) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    for _ in range(2):
        await store.record_scores({(job.id, 0): scores()})
        await store.finish(job.id, FAILED)
        await store.cancel(job.id)
    assert await told(events, job.id) == [("queued", 0), ("running", 1), ("failed", 1)]


async def test_events_after_one_can_be_read_again(store: JobStore, events: JobEvents) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    await store.cancel(job.id)
    first = (await events.since(job.id, None))[0]
    assert await told(events, job.id, first.id) == [("running", 1), ("cancelled", 1)]


async def test_a_dead_letter_that_is_replayed_is_queued_again(
    store: JobStore, dead: DeadLetters, events: JobEvents
) -> None:
    job = await buried(store, dead)
    await dead.replay(job.id)
    assert [state for state, _ in await told(events, job.id)] == ["queued", "running", "failed", "queued"]


async def test_events_expire(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record()
    await store.accept(job)
    assert 0 < await redis.ttl(keys.events(job.id)) <= 100
    await store.finish(job.id, FAILED)
    assert 100 < await redis.ttl(keys.events(job.id)) <= 200


@pytest.fixture
async def bus(redis_url: str, keys: RedisKeys, store: JobStore) -> AsyncIterator[ResultBus]:
    listening = connect(redis_url, name="bus", tag=hash_tag(keys.prefix))
    bus = ResultBus(listening, keys, store)
    await bus.start()
    yield bus
    await bus.close()
    await listening.aclose()


async def test_a_follower_is_told_as_it_happens_until_the_end(
    redis: Redis, store: JobStore, events: JobEvents, bus: ResultBus
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    received: list[bytes] = []

    async def follow() -> None:
        async for line in streaming(redis, events, bus).stream(await store.status(job.id), None):
            received.append(line)

    following = asyncio.create_task(follow())
    for step in range(2):
        while len(received) <= step:  # noqa: ASYNC110 - the stream goes on by itself
            await asyncio.sleep(0.01)
        await store.record_scores({(job.id, step): scores()})
    await store.finish(job.id, FAILED)
    await following
    assert [line.split(b"\n")[0] for line in received] == [
        b"event: queued",
        b"event: running",
        b"event: running",
        b"event: failed",
    ]


async def test_a_follower_is_let_go_when_the_process_shuts_down(
    redis: Redis, store: JobStore, events: JobEvents, bus: ResultBus
) -> None:
    job = record()
    await store.accept(job)
    draining = asyncio.Event()
    lines = 0
    async for _ in streaming(redis, events, bus, draining.is_set).stream(await store.status(job.id), None):
        lines += 1
        draining.set()
    assert lines == 1


@dataclass
class Counted:
    """The events of jobs, with a count of how often Redis is asked for them."""

    events: JobEvents
    reads: int = 0

    async def since(self, job_id: str, last_id: str | None) -> list[JobEvent]:
        self.reads += 1
        return await self.events.since(job_id, last_id)


async def test_followers_of_a_job_share_what_is_read_of_it(
    redis: Redis, store: JobStore, events: JobEvents, bus: ResultBus
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    counted = Counted(events)
    following = streaming(redis, cast(JobEvents, counted), bus)

    async def follow(last_id: str | None) -> int:
        return len([line async for line in following.stream(await store.status(job.id), last_id)])

    [first] = await events.since(job.id, None)
    followers = [asyncio.create_task(follow(None if i % 2 else first.id)) for i in range(300)]
    await store.record_scores({(job.id, 0): scores()})
    await store.finish(job.id, FAILED)
    assert sorted(await asyncio.gather(*followers)) == 150 * [2] + 150 * [3]
    assert counted.reads < 20


async def test_one_caller_leaves_places_to_other_followers_and_gives_back_what_it_does_not_read(
    redis: Redis, store: JobStore, events: JobEvents, bus: ResultBus
) -> None:
    job = record()
    await store.accept(job)
    places = Shares(0.75).of("followers", 8)
    following, status = (
        streaming(redis, events, bus, places=places),
        await store.status(job.id),
    )
    streams = [following.follow(status, None, "flood") for _ in range(6)]
    with pytest.raises(QueueFull, match="6 event streams of this caller") as caught:
        following.follow(status, None, "flood")
    assert caught.value.limit == 6
    good = following.follow(status, None, "good")
    await store.finish(job.id, FAILED)
    assert len([line async for line in good]) == 2
    assert len([line async for line in streams[0]]) == 2
    assert places.total == 5
    streams.clear()
    assert places.total == 0
