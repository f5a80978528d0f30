"""The one clock that all processes share: that of Redis. Clocks of two hosts are never compared with each other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis

from service.errors import RETRY_AFTER_S, QueueUnavailable
from service.queue.connection import translate_redis_errors

Reply = TypeVar("Reply")

# By how much two clocks may come apart, in seconds per second; far more than quartz does, so that a clock that was set
# is noticed within seconds.
DRIFT = 0.01


async def redis_time(redis: Redis) -> float:
    """The time of Redis in Unix seconds."""
    return _unix(await redis.time())


class Clock:
    """Redis' clock as far as this process knows it, so that asking costs no round trip.

    It continues from the last measurement by the machine's monotonic clock. What the machine says of the date is never
    asked: it may be an hour off.
    """

    def __init__(self, redis: Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._offset: float | None = None
        self._unsure_s = 0.0
        self._measured_at = 0.0

    async def time(self) -> float:
        """Unix seconds, for a process that may not have heard of this Redis yet: it is asked then.

        A full Redis tells the time too. Raises QueueUnavailable.
        """
        if self._offset is None:
            with translate_redis_errors():
                await self.measured(self._redis.time(), lambda time: time)
        return self.now()

    def now(self) -> float:
        """Unix seconds. Raises QueueUnavailable where nothing has been measured."""
        if self._offset is None:
            raise QueueUnavailable("The time of Redis is not known yet. Try again.", retry_after_s=RETRY_AFTER_S)
        return self._monotonic() + self._offset

    async def measured(self, reply: Awaitable[Reply], time_in: Callable[[Reply], Sequence[Any]]) -> Reply:
        """Return `reply`, after a measurement by the reply to TIME in it."""
        asked = self._monotonic()
        found = await reply
        answered = self._monotonic()
        unsure_s = (answered - asked) / 2
        # A slow reply is imprecise: an earlier, better measurement stays, with a precision that falls every second.
        if self._offset is None or unsure_s <= self._unsure_s + DRIFT * (answered - self._measured_at):
            self._offset = _unix(time_in(found)) - (asked + answered) / 2
            self._unsure_s, self._measured_at = unsure_s, answered
        return found


def _unix(time: Sequence[Any]) -> float:
    """Unix seconds of a reply to the command TIME."""
    return int(time[0]) + int(time[1]) / 1_000_000
