"""Redis' clock as a process knows it: steady, and no better than what was measured."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

import pytest
import redis.exceptions
from redis.asyncio import Redis

from service.errors import QueueUnavailable
from service.queue.clock import Clock


class Hand:
    """A monotonic clock that a test moves, and answers of Redis that take a while by it."""

    def __init__(self) -> None:
        self.now = 100.0

    async def answer(self, redis_time: float, takes_s: float = 0.0) -> list[int]:
        self.now += takes_s
        return [int(redis_time), int(redis_time % 1 * 1e6)]


def measure(clock: Clock, hand: Hand, redis_time: float, takes_s: float = 0.0) -> None:
    found: Callable[[list[int]], list[int]] = lambda reply: reply  # noqa: E731 - what the reply is made of
    asyncio.run(clock.measured(hand.answer(redis_time, takes_s), found))


class Server:
    """A Redis that knows the time, or is away."""

    def __init__(self, hand: Hand, *, away: bool = False) -> None:
        self.asked = 0
        self._hand = hand
        self._away = away

    async def time(self) -> list[int]:
        self.asked += 1
        if self._away:
            raise redis.exceptions.ConnectionError
        return await self._hand.answer(5000.0)


def clock_of(hand: Hand, server: Server | None = None) -> Clock:
    return Clock(cast(Redis, server or Server(hand)), lambda: hand.now)


def test_before_it_is_measured_nobody_is_told_what_the_machine_says() -> None:
    with pytest.raises(QueueUnavailable, match="not known"):
        clock_of(Hand()).now()


def test_who_asks_for_the_time_before_it_is_measured_has_redis_asked_once() -> None:
    hand = Hand()
    server = Server(hand)
    clock = clock_of(hand, server)
    assert asyncio.run(clock.time()) == 5000.0
    hand.now += 7
    assert asyncio.run(clock.time()) == 5007.0
    assert server.asked == 1


def test_a_redis_that_is_away_has_no_time() -> None:
    hand = Hand()
    with pytest.raises(QueueUnavailable, match="cannot be reached"):
        asyncio.run(clock_of(hand, Server(hand, away=True)).time())


def test_it_goes_on_from_what_was_measured_whatever_the_wall_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    clock = clock_of(hand)
    measure(clock, hand, 5000.0)
    monkeypatch.setattr(time, "time", lambda: 9e9)
    hand.now += 7
    assert clock.now() == 5007.0


def test_an_answer_is_taken_to_be_from_the_middle_of_its_way() -> None:
    hand = Hand()
    clock = clock_of(hand)
    measure(clock, hand, 5000.0, takes_s=2.0)
    assert clock.now() == 5001.0


def test_a_slow_answer_does_not_spoil_what_a_fast_one_has_told() -> None:
    hand = Hand()
    clock = clock_of(hand)
    measure(clock, hand, 5000.0)
    measure(clock, hand, 5000.0, takes_s=8.0)
    assert clock.now() == 5008.0


def test_a_clock_of_redis_that_is_set_is_followed_even_by_slower_answers_in_time() -> None:
    hand = Hand()
    clock = clock_of(hand)
    measure(clock, hand, 5000.0)
    hand.now += 60
    measure(clock, hand, 9000.0, takes_s=1.0)
    assert clock.now() == 9000.5
