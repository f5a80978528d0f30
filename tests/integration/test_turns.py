"""Chores of an installation are done by one of its processes."""

import asyncio
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from service.queue.redis_keys import RedisKeys
from service.queue.turns import LIFE_INTERVALS, Turn


class Hands:
    """A clock of one process that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr("service.queue.turns.time", SimpleNamespace(monotonic=lambda: hands.now))
    return hands


def turns(redis: Redis, keys: RedisKeys, count: int, every_s: float = 10.0) -> list[Turn]:
    return [Turn(redis, keys, "chore", every_s) for _ in range(count)]


async def test_of_several_processes_one_has_the_turn_and_keeps_it(redis: Redis, keys: RedisKeys, hands: Hands) -> None:
    processes = turns(redis, keys, 3)
    for _ in range(20):
        assert [await turn.mine() for turn in processes] == [True, False, False]
        hands.now += 10.0


async def test_a_chore_is_due_once_in_its_interval(redis: Redis, keys: RedisKeys, hands: Hands) -> None:
    [turn, other] = turns(redis, keys, 2)
    assert [await turn.due(), await turn.due(), await other.due()] == [True, False, False]
    hands.now += 10.0
    assert [await turn.due(), await turn.due(), await other.due()] == [True, False, False]


async def test_another_process_has_the_turn_of_one_that_ends_it(redis: Redis, keys: RedisKeys, hands: Hands) -> None:
    first, second = turns(redis, keys, 2)
    assert [await first.mine(), await second.mine()] == [True, False]
    await second.end()
    await first.end()
    assert not await first.mine()
    hands.now += (LIFE_INTERVALS + 1) * 10.0
    assert [await second.mine(), await first.mine()] == [True, False]


async def test_a_process_that_stands_still_loses_the_turn_and_knows_it(
    redis: Redis, keys: RedisKeys, hands: Hands
) -> None:
    still, other = turns(redis, keys, 2, every_s=0.05)
    assert await still.mine()
    await asyncio.sleep(LIFE_INTERVALS * 0.05 + 0.05)
    assert await other.mine()
    hands.now += LIFE_INTERVALS * 0.05
    assert not await still.mine()


async def test_a_process_that_lost_the_turn_does_not_end_that_of_another(
    redis: Redis, keys: RedisKeys, hands: Hands
) -> None:
    still, other, third = turns(redis, keys, 3, every_s=0.05)
    assert await still.mine()
    await asyncio.sleep(LIFE_INTERVALS * 0.05 + 0.05)
    assert await other.mine()
    await redis.expire(keys.turn("chore"), 60)
    await still.end()
    assert not await third.mine()


async def test_a_process_whose_turn_it_is_not_asks_again_when_it_would_end(
    redis: Redis, keys: RedisKeys, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = turns(redis, keys, 2)
    await first.mine()
    asked, take = 0, second._take

    async def counted(**given):  # type: ignore[no-untyped-def]
        nonlocal asked
        asked += 1
        return await take(**given)

    monkeypatch.setattr(second, "_take", counted)
    for _ in range(30):
        await second.mine()
        hands.now += 1.0
    assert asked == 1
    hands.now += 30.0
    await second.mine()
    assert asked == 2
