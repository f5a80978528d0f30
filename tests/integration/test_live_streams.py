"""Live streams in Redis: one process holds each, and what is written needs that hold."""

import asyncio
from typing import Any, get_args

import pytest
from redis.asyncio import Redis

from service.queue.live_streams import LiveStreams, LiveTimes, Mode
from service.queue.redis_keys import RedisKeys

TIMES = LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300)
TASK = {"step": 1.5}


@pytest.fixture
async def streams(redis: Redis, keys: RedisKeys) -> LiveStreams:
    live = LiveStreams(redis, keys, TIMES)
    await live.create("s", "me", TASK, 1000.5, pulled=True)
    return live


async def test_a_session_is_found_as_it_was_begun(streams: LiveStreams) -> None:
    found = await streams.find("s")
    assert found is not None
    assert (found.id, found.owner, found.task, found.created_at) == ("s", "me", TASK, 1000.5)
    assert (found.held_until, found.at, found.ended, found.counters) == (0.0, 1000.5, "", {})
    assert await streams.find("other") is None


async def test_a_session_is_held_by_one_process_at_a_time(streams: LiveStreams, redis: Redis) -> None:
    now, _ = await redis.time()
    assert (await streams.hold("s", "a", "take"))[0] == "ours"
    assert (await streams.hold("s", "b", "take"))[0] == "held"
    assert (await streams.hold("s", "b", "keep"))[0] == "held"
    assert (await streams.hold("s", "a", "keep"))[0] == "ours"
    found = await streams.find("s")
    assert found is not None
    assert now + 99 < found.held_until < now + 110
    assert now - 1 < found.at < now + 10


async def test_a_hold_that_was_not_kept_is_taken_and_its_holder_writes_no_more(redis: Redis, keys: RedisKeys) -> None:
    live = LiveStreams(redis, keys, LiveTimes(stream_lease_s=0.05, stream_idle_s=30.0, stream_keep_s=300))
    await live.create("s", "me", TASK, 1.0, pulled=False)
    await live.hold("s", "a", "take")
    await asyncio.sleep(0.1)
    # Nobody took it: it is still the first one's.
    assert (await live.hold("s", "a", "keep"))[0] == "ours"
    await asyncio.sleep(0.1)
    assert (await live.hold("s", "b", "take"))[0] == "ours"
    await asyncio.sleep(0.1)
    assert await live.hold("s", "a", "keep", event={"kind": "window"}, counters={"told": 1}, ended="x") == ("held", "")
    found = await live.find("s")
    assert found is not None
    assert (found.counters, found.ended, await live.events("s", None)) == ({}, "", [])


async def test_a_session_that_is_let_go_of_is_taken_at_once(streams: LiveStreams) -> None:
    await streams.hold("s", "a", "take")
    assert (await streams.hold("s", "a", "keep", let_go=True))[0] == "ours"
    assert (await streams.hold("s", "b", "take"))[0] == "ours"


async def test_a_session_can_be_taken_from_the_process_that_holds_it(streams: LiveStreams) -> None:
    await streams.hold("s", "a", "take")
    assert (await streams.hold("s", "b", "steal"))[0] == "ours"
    assert (await streams.hold("s", "a", "keep"))[0] == "held"
    assert (await streams.hold("s", "a", "take"))[0] == "held"


async def test_what_the_holder_tells_is_read_in_order_from_any_place(streams: LiveStreams) -> None:
    ids = []
    for number in range(3):
        held, event_id = await streams.hold("s", "a", "take", event={"n": number}, counters={"told": number + 0.5})
        assert held == "ours"
        ids.append(event_id)
    assert await streams.events("s", None) == [(ids[n], {"n": n}) for n in range(3)]
    assert await streams.events("s", ids[0]) == [(ids[n], {"n": n}) for n in (1, 2)]
    found = await streams.find("s")
    assert found is not None
    assert found.counters == {"told": 2.5}


async def test_of_many_events_the_last_ones_are_kept(streams: LiveStreams) -> None:
    for number in range(5):
        await streams.hold("s", "a", "take", event={"n": number}, most_events=2)
    assert [event["n"] for _, event in await streams.events("s", None)] == [3, 4]


async def test_an_ended_session_takes_nothing_more(streams: LiveStreams, redis: Redis, keys: RedisKeys) -> None:
    await streams.hold("s", "a", "take", event={"n": 1})
    assert (await streams.hold("s", "a", "keep", ended="deleted"))[0] == "ours"
    for mode in get_args(Mode):
        assert await streams.hold("s", "a", mode, event={"n": 2}) == ("ended", "")
    found = await streams.find("s")
    assert found is not None
    assert found.ended == "deleted"
    assert len(await streams.events("s", None)) == 1
    assert 200 < await redis.ttl(keys.live("s")) <= 300
    assert 200 < await redis.ttl(keys.live_events("s")) <= 300


async def test_a_session_that_was_forgotten_is_unknown(streams: LiveStreams, redis: Redis, keys: RedisKeys) -> None:
    await redis.delete(keys.live("s"))
    assert await streams.hold("s", "a", "steal", event={"n": 1}) == ("unknown", "")
    assert await redis.exists(keys.live("s"), keys.live_events("s")) == 0


async def test_keeping_a_session_lets_it_and_its_events_live_on(
    streams: LiveStreams, redis: Redis, keys: RedisKeys
) -> None:
    await streams.hold("s", "a", "take", event={"n": 1})
    for key in (keys.live("s"), keys.live_events("s")):
        assert 400 < await redis.ttl(key) <= 460
        await redis.expire(key, 5)
    await streams.hold("s", "a", "keep")
    for key in (keys.live("s"), keys.live_events("s")):
        assert 400 < await redis.ttl(key) <= 460


async def test_followers_hear_of_events(streams: LiveStreams, redis: Redis, keys: RedisKeys) -> None:
    async with redis.pubsub() as listening:
        await listening.subscribe(keys.news("s"))
        await streams.hold("s", "a", "take")
        await streams.hold("s", "a", "keep", event={"n": 1})
        heard: list[Any] = []
        while len(heard) < 2:
            message = await listening.get_message(timeout=5.0)
            assert message is not None
            heard.append((message["type"], message["data"]))
        assert heard == [("subscribe", 1), ("message", b"told")]


async def test_sessions_with_a_source_that_nobody_holds_are_found(redis: Redis, keys: RedisKeys) -> None:
    live = LiveStreams(redis, keys, TIMES)
    for name, pulled in (("held", True), ("lost", True), ("ended", True), ("forgotten", True), ("pushed", False)):
        await live.create(name, "me", TASK, 1.0, pulled=pulled)
    now, _ = await redis.time()
    await live.hold("held", "a", "take")
    await live.hold("ended", "a", "take", ended="deleted")
    await redis.delete(keys.live("forgotten"))
    assert await live.abandoned(now) == ["lost"]
    left: Any = await redis.zrange(keys.pulled, 0, -1)
    assert left == [b"held", b"lost"]
    assert sorted(await live.abandoned(now + 1000)) == ["held", "lost"]
