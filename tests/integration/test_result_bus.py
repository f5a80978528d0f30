import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.contracts import JobState
from service.errors import BackendFailed
from service.local.redis import LocalRedis
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from service.queue.result_bus import ResultBus
from service.redis_url import hash_tag
from testing.factories import decoded, record, scores
from tests.fixtures.link import Cut, Link
from tests.fixtures.queue_servers import QueueServers
from tests.integration.conftest import TIMES, give_up, waiting

FAILED = Outcome(JobState.FAILED, error=BackendFailed("x"))


@pytest.fixture
async def listening(redis_url: str, keys: RedisKeys) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="bus", tag=hash_tag(keys.prefix))
    yield client
    await client.aclose()


@pytest.fixture
async def bus(listening: Redis, keys: RedisKeys, store: JobStore) -> AsyncIterator[ResultBus]:
    bus = ResultBus(listening, keys, store)
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
async def unpolled(listening: Redis, keys: RedisKeys, store: JobStore) -> AsyncIterator[ResultBus]:
    """A bus that has nothing but messages to wake its waiters."""
    bus = ResultBus(listening, keys, store, poll_s=1000.0)
    await bus.start()
    yield bus
    await bus.close()


async def test_all_waiters_of_a_job_get_its_outcome_and_no_other(bus: ResultBus, store: JobStore) -> None:
    jobs = [record() for _ in range(3)]
    for job in jobs:
        await store.accept(job)
    waiting = [asyncio.create_task(bus.wait(job.id, 5)) for job in (jobs[0], jobs[0], jobs[1])]
    late = asyncio.create_task(bus.wait(jobs[2].id, 0.2))
    await asyncio.sleep(0.05)
    for number in (0, 1):
        error = BackendFailed(str(number))
        await store.finish(jobs[number].id, Outcome(JobState.FAILED, error=error))
    outcomes = await asyncio.gather(*waiting)
    assert [o.error.detail for o in outcomes if o and o.error] == ["0", "0", "1"]
    assert await late is None


async def test_a_job_that_finished_before_the_wait_is_answered(bus: ResultBus, store: JobStore) -> None:
    job = record()
    await store.accept(job)
    await store.finish(job.id, FAILED)
    outcome = await bus.wait(job.id, 5)
    assert outcome is not None


async def test_a_finished_job_wakes_its_waiter_without_waiting_for_the_poll(
    unpolled: ResultBus, store: JobStore
) -> None:
    job = record()
    await store.accept(job)
    await unpolled.wait(job.id, 0.05)
    waiting = asyncio.create_task(unpolled.wait(job.id, 1000))
    await asyncio.sleep(0.05)
    await store.finish(job.id, FAILED)
    assert await asyncio.wait_for(waiting, 10) is not None


async def test_a_job_that_ends_between_its_acceptance_and_the_wait_is_answered_at_once(
    unpolled: ResultBus, store: JobStore
) -> None:
    job = record()
    ended = unpolled.completion(job.id)
    await store.accept(job, reply_to=unpolled.reply_to)
    await unpolled.wait(job.id, 0.05)
    await store.finish(job.id, FAILED)
    await ended.wait()
    assert await asyncio.wait_for(unpolled.wait(job.id, 1000, ended), 10) is not None


async def test_at_its_home_a_job_ends_with_its_outcome_in_the_message(
    unpolled: ResultBus, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = record()
    ended = unpolled.completion(job.id)
    await unpolled.wait("subscribed", 0.05)
    await store.accept(job, reply_to=unpolled.reply_to)
    await store.finish(job.id, FAILED)
    await redis.delete(keys.outcome(job.id))
    outcome = await asyncio.wait_for(unpolled.wait(job.id, 1000, ended), 10)
    assert outcome is not None
    assert outcome.encode() == FAILED.encode()


async def test_an_outcome_that_does_not_come_along_is_fetched(
    unpolled: ResultBus, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.job_store.MAX_PUBLISHED_BYTES", 8)
    job = record()
    ended = unpolled.completion(job.id)
    await unpolled.wait("subscribed", 0.05)
    await store.accept(job, reply_to=unpolled.reply_to)
    await store.finish(job.id, FAILED)
    await asyncio.wait_for(ended.wait(), 10)
    assert ended.outcome is None
    assert await asyncio.wait_for(unpolled.wait(job.id, 1000, ended), 10) is not None


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_the_process_that_accepted_a_job_hears_of_an_end_that_has_no_message_with_an_outcome(
    unpolled: ResultBus, store: JobStore, dead: DeadLetters, end: str
) -> None:
    job = record()
    ended = unpolled.completion(job.id)
    await unpolled.wait("subscribed", 0.05)
    await store.accept(job, reply_to=unpolled.reply_to)
    await (store.cancel(job.id) if end == "cancelled" else give_up(dead, job))
    outcome = await asyncio.wait_for(unpolled.wait(job.id, 1000, ended), 10)
    assert outcome is not None
    assert outcome.state == end


async def test_a_process_hears_of_no_job_that_it_neither_accepted_nor_follows_nor_waits_for(
    unpolled: ResultBus, servers: QueueServers, keys: RedisKeys, store: JobStore
) -> None:
    own = {keys.reply_channel(unpolled.reply_to).encode(), keys.ended_channel(unpolled.reply_to).encode()}
    job = record()
    await store.accept(job)
    async with Redis.from_url(servers.server_of(keys.prefix)) as operator, asyncio.timeout(10):
        with unpolled.following(job.id) as news:
            await news.wait()
            assert {*await operator.pubsub_channels(f"{keys.prefix}:*")} == own | {keys.news(job.id).encode()}
        while {*await operator.pubsub_channels(f"{keys.prefix}:*")} != own:  # noqa: ASYNC110 - the server's doing
            await asyncio.sleep(0.01)


async def test_a_follower_hears_of_scores_and_of_the_end_whichever_process_accepted_the_job(
    unpolled: ResultBus, store: JobStore
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job, reply_to="another")
    with unpolled.following(job.id) as news:
        await asyncio.wait_for(news.wait(), 10)
        news.clear()
        await store.record_scores({(job.id, 0): scores()})
        await asyncio.wait_for(news.wait(), 10)
        news.clear()
        await store.finish(job.id, FAILED)
        await asyncio.wait_for(news.wait(), 10)


async def test_a_channel_that_is_let_go_and_needed_again_is_heard(unpolled: ResultBus, store: JobStore) -> None:
    job = record()
    await store.accept(job)
    for _ in range(20):
        with unpolled.following(job.id):
            await asyncio.sleep(0)
    assert await unpolled.wait(job.id, 0.05) is None
    with unpolled.following(job.id) as news:
        await store.finish(job.id, FAILED)
        await asyncio.wait_for(news.wait(), 10)


async def test_processes_of_the_release_before_hear_of_scores_and_ends_on_their_own_channels(
    redis: Redis, keys: RedisKeys, store: JobStore, dead: DeadLetters
) -> None:
    jobs = [record(decoded=decoded(windows=2)) for _ in range(3)]
    async with redis.pubsub(ignore_subscribe_messages=True) as earlier:
        await earlier.subscribe(keys.finished, keys.progress)
        for job in jobs:
            await store.accept(job, reply_to="another")
        await store.record_scores({(jobs[0].id, 0): scores()})
        await store.finish(jobs[0].id, FAILED)
        await store.cancel(jobs[1].id)
        await give_up(dead, jobs[2])
        heard: list[tuple[str, str]] = []
        async with asyncio.timeout(10):
            while len(heard) < 4:
                if (message := await earlier.get_message(timeout=1.0)) is not None:
                    heard.append((message["channel"].decode(), message["data"].decode()))
    assert heard == [(keys.progress, jobs[0].id), *((keys.finished, job.id) for job in jobs)]


async def test_a_wait_goes_on_while_a_job_has_ended_and_its_outcome_cannot_be_read(bus: ResultBus) -> None:
    ended = bus.completion("gone")
    ended.set()
    assert await bus.wait("gone", 0.1, ended) is None


async def test_waits_end_when_they_are_let_go_and_the_first_word_counts(unpolled: ResultBus, store: JobStore) -> None:
    job = record()
    await store.accept(job)
    waiting = asyncio.create_task(unpolled.wait(job.id, 1000))
    await asyncio.sleep(0.05)
    unpolled.release_waiters(0.05)
    unpolled.release_waiters(1000)
    assert await asyncio.wait_for(waiting, 10) is None
    assert await asyncio.wait_for(unpolled.wait(job.id, 1000), 10) is None


async def test_a_message_lost_by_pubsub_is_made_up_for_by_the_poll(bus: ResultBus, store: JobStore) -> None:
    job = record()
    await store.accept(job)
    waiting = asyncio.create_task(bus.wait(job.id, 20))
    await asyncio.sleep(0.05)
    await bus.close()
    await store.finish(job.id, FAILED)
    assert await waiting is not None


async def test_an_accepted_job_survives_a_restart_of_redis(tmp_path: Path) -> None:
    job, keys = record(), RedisKeys("restart")
    for attempt in ("accept", "look"):
        with LocalRedis(tmp_path, persist=True) as server:
            client = connect(server.url, name="store")
            store = JobStore(client, keys, TIMES)
            if attempt == "accept":
                await store.accept(job)
            else:
                assert (await store.status(job.id)).status is JobState.QUEUED
                assert await waiting(client, keys) == 1
            await client.aclose()


async def test_nothing_is_kept_for_waiters_that_have_gone(bus: ResultBus) -> None:
    await bus.wait("nobody", 0.01)
    assert not len(bus._completions)


async def test_those_who_wait_for_one_job_ask_for_its_outcome_together(
    bus: ResultBus, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, looks, outcome = record(), 0, store.outcome
    await store.accept(job)

    async def counted(job_id: str) -> Outcome | None:
        nonlocal looks
        looks += 1
        return await outcome(job_id)

    monkeypatch.setattr(store, "outcome", counted)
    waiting = [asyncio.create_task(bus.wait(job.id, 20)) for _ in range(100)]
    await asyncio.sleep(0.05)
    await store.finish(job.id, FAILED)
    assert all([await one for one in waiting])
    assert looks < 20


async def told_of_an_end(bus: ResultBus, store: JobStore) -> bool:
    """Whether news of the end of a job comes within a moment."""
    job = record()
    ending = bus.completion(job.id)
    await store.accept(job, reply_to=bus.reply_to)
    await store.finish(job.id, FAILED)
    with suppress(TimeoutError):
        await asyncio.wait_for(ending.wait(), 0.3)
    return ending.is_set()


async def until_it_hears(bus: ResultBus, store: JobStore) -> None:
    async with asyncio.timeout(20):
        while not await told_of_an_end(bus, store):
            pass


@pytest.fixture
def link(servers: QueueServers, keys: RedisKeys) -> Iterator[Link]:
    link = servers.link(keys.prefix)
    yield link
    link.close()


@pytest.fixture
async def linked(link: Link, keys: RedisKeys, store: JobStore) -> AsyncIterator[ResultBus]:
    """A bus that reaches Redis through `link`."""
    client = connect(f"redis://127.0.0.1:{link.port}", name="bus", socket_timeout_s=1.0)
    bus = ResultBus(client, keys, store, silent_s=1.0)
    yield bus
    await bus.close()
    await client.aclose()


async def test_a_bus_whose_connection_was_dropped_without_a_word_subscribes_again(
    link: Link, linked: ResultBus, store: JobStore
) -> None:
    await linked.start()
    await until_it_hears(linked, store)
    link.cut(Cut.ANSWERS)
    assert not await told_of_an_end(linked, store)
    link.mend()
    await until_it_hears(linked, store)


async def test_a_bus_that_could_not_connect_subscribes_later(link: Link, linked: ResultBus, store: JobStore) -> None:
    link.cut(Cut.REQUESTS)
    await linked.start()
    assert not await told_of_an_end(linked, store)
    link.mend()
    await until_it_hears(linked, store)
