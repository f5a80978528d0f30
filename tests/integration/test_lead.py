"""Of many idle workers few wait at the streams, and whoever finds work wakes another."""

import asyncio

from redis.asyncio import Redis

from service.queue.clip_stream import ClipStream
from service.queue.job_store import JobStore
from service.queue.lead import LEADERS, LIFE_WAITS, Lead
from service.queue.redis_keys import RedisKeys
from testing.factories import record

ROUTES = ["tiny"]
MOST = 10
LONG_MS = 20_000
BRIEF_MS = 30
LAPSED_S = LIFE_WAITS * BRIEF_MS / 1000 + 0.1


def leads(redis: Redis, keys: RedisKeys, count: int) -> list[Lead]:
    return [Lead(redis, keys, f"worker{number}") for number in range(count)]


async def led(workers: list[Lead], routes: list[str] = ROUTES, wait_ms: int = LONG_MS) -> list[list[str]]:
    return [await worker.take(routes, wait_ms) for worker in workers]


async def crowded(redis: Redis, keys: RedisKeys, followers: int, routes: list[str] = ROUTES) -> list[Lead]:
    """Leaders that know that others follow, and then those, the latest last."""
    await led(leads(redis, keys, LEADERS), routes)
    workers = leads(redis, keys, LEADERS + followers)
    assert await led(workers, routes) == [routes] * LEADERS + [[]] * followers
    return workers


async def told(redis: Redis, keys: RedisKeys) -> list[int]:
    """The numbers of the workers to which the lead was passed."""
    return [number for number in range(MOST) if await redis.exists(keys.promoted(f"worker{number}"))]


async def test_few_of_many_workers_lead_a_route_and_keep_it(redis: Redis, keys: RedisKeys) -> None:
    workers = leads(redis, keys, LEADERS + 2)
    want = [ROUTES] * LEADERS + [[], []]
    assert await led(workers) == want
    assert await led(workers) == want
    assert await led(leads(redis, keys, LEADERS + 2)[::-1]) == want[::-1], "asked anew"


async def test_a_worker_leads_the_routes_that_have_too_few_leaders(redis: Redis, keys: RedisKeys) -> None:
    *first, last = leads(redis, keys, LEADERS + 1)
    await led(first)
    assert await last.take(["other", "tiny"], LONG_MS) == ["other"]
    assert await last.take(["other", "tiny"], LONG_MS) == ["other"]


async def test_another_worker_leads_for_one_that_has_died(redis: Redis, keys: RedisKeys) -> None:
    *living, dead, follower = leads(redis, keys, LEADERS + 1)
    await led(living)
    await dead.take(ROUTES, BRIEF_MS)
    # The set itself lives longer.
    await redis.pexpire(keys.leaders("tiny"), LONG_MS)
    assert await follower.take(ROUTES, LONG_MS) == []
    await asyncio.sleep(LAPSED_S)
    assert await follower.take(ROUTES, LONG_MS) == ROUTES
    assert await redis.zcard(keys.leaders("tiny")) == LEADERS


async def test_a_leader_that_stands_still_asks_whether_it_leads(redis: Redis, keys: RedisKeys) -> None:
    [still] = leads(redis, keys, 1)
    await still.take(ROUTES, BRIEF_MS)
    await asyncio.sleep(LAPSED_S)
    await led([Lead(redis, keys, f"other{number}") for number in range(LEADERS)])
    assert await still.take(ROUTES, BRIEF_MS) == []


async def test_a_leader_with_work_lets_the_latest_follower_lead(redis: Redis, keys: RedisKeys) -> None:
    leader, *_, earlier, latest = await crowded(redis, keys, 2)
    waiting = asyncio.create_task(latest.follow(LONG_MS))
    await leader.pass_on()
    await waiting
    assert await latest.take(ROUTES, LONG_MS) == ROUTES
    assert await earlier.take(ROUTES, LONG_MS) == []
    assert await leader.take(ROUTES, LONG_MS) == []


async def test_each_worker_that_finds_work_wakes_one_more(redis: Redis, keys: RedisKeys) -> None:
    leader, *_, earlier, latest = await crowded(redis, keys, 3)
    await leader.pass_on()
    await leader.pass_on()
    assert await told(redis, keys) == [LEADERS + 2]
    await latest.pass_on()
    assert await told(redis, keys) == [LEADERS + 1, LEADERS + 2]
    await earlier.pass_on()
    assert await told(redis, keys) == [LEADERS, LEADERS + 1, LEADERS + 2]


async def test_a_follower_that_has_found_work_is_not_woken(redis: Redis, keys: RedisKeys) -> None:
    *_, waiting, busy = await crowded(redis, keys, 2)
    await busy.pass_on()
    assert await told(redis, keys) == [LEADERS]
    await waiting.pass_on()
    assert await told(redis, keys) == [LEADERS]


async def test_a_worker_that_leads_is_none_that_follows(redis: Redis, keys: RedisKeys) -> None:
    first, second, *_, latest = await crowded(redis, keys, 2)
    await redis.zrem(keys.leaders("tiny"), "worker0")
    assert await latest.take(ROUTES, LONG_MS) == ROUTES
    await first.pass_on()
    await second.pass_on()
    assert await told(redis, keys) == [LEADERS]


async def test_followers_that_have_died_are_forgotten(redis: Redis, keys: RedisKeys) -> None:
    leader, *_, living = await crowded(redis, keys, 1)
    [dead] = [Lead(redis, keys, "dead")]
    await dead.take(ROUTES, BRIEF_MS)
    await living.take(ROUTES, LONG_MS)
    await asyncio.sleep(LAPSED_S)
    await leader.pass_on()
    assert await redis.zcard(keys.followers("tiny")) == 0
    assert await told(redis, keys) == [LEADERS]


async def test_where_all_followers_have_died_none_is_told(redis: Redis, keys: RedisKeys) -> None:
    leader, *_ = await crowded(redis, keys, 0)
    await Lead(redis, keys, "worker9").take(ROUTES, BRIEF_MS)
    await redis.pexpire(keys.followers("tiny"), LONG_MS)
    await asyncio.sleep(LAPSED_S)
    await leader.pass_on()
    assert await told(redis, keys) == []


async def test_the_lead_of_a_route_goes_to_a_worker_that_serves_it(redis: Redis, keys: RedisKeys) -> None:
    leader, *_ = await crowded(redis, keys, 0, ["tiny", "other"])
    await Lead(redis, keys, "worker7").take(["other"], LONG_MS)
    await Lead(redis, keys, "worker8").take(["foreign"], LONG_MS)
    await leader.pass_on()
    assert await told(redis, keys) == [7]
    assert await redis.zcard(keys.leaders("tiny")) == await redis.zcard(keys.leaders("other")) == LEADERS - 1


async def test_one_follower_is_told_where_several_routes_have_some(redis: Redis, keys: RedisKeys) -> None:
    leader, *_ = await crowded(redis, keys, 0, ["tiny", "other"])
    await Lead(redis, keys, "worker7").take(["tiny"], LONG_MS)
    await Lead(redis, keys, "worker8").take(["other"], LONG_MS)
    await leader.pass_on()
    assert await told(redis, keys) == [7]


async def test_few_workers_say_nothing_to_each_other(redis: Redis, keys: RedisKeys) -> None:
    workers = leads(redis, keys, LEADERS - 1)
    await led(workers)
    await workers[0].pass_on()
    assert await redis.zcard(keys.leaders("tiny")) == LEADERS - 1


async def test_a_follower_gets_no_entries_and_finds_them_when_it_looks(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    await led(leads(redis, keys, LEADERS))
    follower = ClipStream(redis, keys, "follower")
    await follower.join(ROUTES)
    await store.accept(record())
    assert await follower.wait(ROUTES, 8, 10) == []
    assert len(await follower.read(ROUTES, 8, 10)) == 1
