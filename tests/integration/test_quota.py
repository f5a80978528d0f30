import asyncio

import pytest
from redis.asyncio import Redis

from service.errors import QueueUnavailable, QuotaExceeded
from service.queue.connection import connect
from service.queue.quota import QuotaLimits, Quotas
from service.queue.redis_keys import RedisKeys
from tests.fixtures.keyspace import names_like

THREE = QuotaLimits(requests="3/hour")
SECONDS = QuotaLimits(video_seconds="100/hour")


@pytest.fixture
def quotas(redis: Redis, keys: RedisKeys) -> Quotas:
    return Quotas(redis, keys)


async def test_a_quota_is_used_up_exactly_even_by_two_processes_at_once(redis: Redis, keys: RedisKeys) -> None:
    both = [Quotas(redis, keys), Quotas(redis, keys)]
    results = await asyncio.gather(
        *(both[i % 2].spend("key:app", THREE, "requests", 1) for i in range(10)), return_exceptions=True
    )
    assert [type(result) for result in results if result is not None] == [QuotaExceeded] * 7


async def test_the_refusal_names_limit_and_value_and_says_when_to_come_back(quotas: Quotas) -> None:
    for _ in range(3):
        await quotas.spend("key:app", THREE, "requests", 1)
    with pytest.raises(QuotaExceeded) as caught:
        await quotas.spend("key:app", THREE, "requests", 1)
    assert (caught.value.limit, caught.value.actual) == (3, 4)
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 3600


async def test_callers_do_not_share_a_quota(quotas: Quotas) -> None:
    for caller in ("key:app", "key:other", "address:app"):
        await quotas.spend(caller, QuotaLimits(requests="1/hour"), "requests", 1)


async def test_seconds_that_do_not_fit_cost_nothing(quotas: Quotas) -> None:
    await quotas.spend("key:app", SECONDS, "video_seconds", 60)
    with pytest.raises(QuotaExceeded):
        await quotas.spend("key:app", SECONDS, "video_seconds", 41)
    await quotas.spend("key:app", SECONDS, "video_seconds", 40)
    with pytest.raises(QuotaExceeded):
        await quotas.check("key:app", SECONDS, "video_seconds")


async def test_a_video_longer_than_the_whole_quota_is_told_so_and_not_to_wait(quotas: Quotas) -> None:
    with pytest.raises(QuotaExceeded, match="the quota allows 100") as caught:
        await quotas.spend("key:app", SECONDS, "video_seconds", 101)
    assert caught.value.retry_after_s is None


async def test_what_is_left_is_reported(quotas: Quotas) -> None:
    await quotas.spend("key:app", SECONDS, "video_seconds", 60)
    (state,) = await quotas.states("key:app", SECONDS)
    assert (state.kind, state.amount, state.window_s, state.remaining) == ("video_seconds", 100, 3600, 40)


async def test_where_there_is_no_limit_nothing_is_counted(quotas: Quotas, redis: Redis, keys: RedisKeys) -> None:
    await quotas.spend("key:app", QuotaLimits(), "requests", 1)
    await quotas.check("key:app", QuotaLimits(), "video_seconds")
    assert await names_like(redis, f"{keys.prefix}:*") == set()


async def test_counters_stand_under_the_prefix_and_expire(quotas: Quotas, redis: Redis, keys: RedisKeys) -> None:
    await quotas.spend("key:app", THREE, "requests", 1)
    (counter,) = await names_like(redis, f"{keys.quotas}:*")
    assert await redis.ttl(counter) > 0


async def test_a_redis_that_is_away_is_reported() -> None:
    away = connect("redis://127.0.0.1:1/0", name="tests")
    with pytest.raises(QueueUnavailable):
        await Quotas(away, RedisKeys("x")).spend("key:app", THREE, "requests", 1)
    await away.aclose()


async def test_what_is_left_is_taken_where_the_cost_is_more(quotas: Quotas) -> None:
    await quotas.spend("key:app", SECONDS, "video_seconds", 90)
    await quotas.spend_left("key:app", SECONDS, "video_seconds", 120)
    assert [state.remaining for state in await quotas.states("key:app", SECONDS)] == [0]
    await quotas.spend_left("key:app", SECONDS, "video_seconds", 1)


async def test_of_a_quota_with_enough_left_the_cost_is_taken(quotas: Quotas) -> None:
    await quotas.spend_left("key:app", SECONDS, "video_seconds", 30)
    assert [state.remaining for state in await quotas.states("key:app", SECONDS)] == [70]
