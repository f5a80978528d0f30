"""The one clock that all processes share: that of Redis. Clocks of two hosts are never compared with each other."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis

Reply = TypeVar("Reply")

# By how much two clocks may come apart, in seconds per second; far more than quartz does, so that a clock that was set
# is noticed within seconds.
DRIFT = 0.01

# `now` in Unix seconds, for a script.
NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""


async def redis_time(redis: Redis) -> float:
    """What Redis' clock says: Unix seconds."""
    return _unix(await redis.time())


class Clock:
    """Redis' clock as far as this process knows it, so that asking costs no round trip.

    Steady: it goes on by the machine's monotonic clock from what was measured last. Until then it is the machine's own.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None
        self._unsure_s = 0.0
        self._measured_at = 0.0

    @property
    def known(self) -> bool:
        """Whether it has been measured."""
        return self._offset is not None

    def now(self) -> float:
        """Unix seconds."""
        return time.time() if self._offset is None else self._monotonic() + self._offset

    async def measured(self, reply: Awaitable[Reply], time_in: Callable[[Reply], Sequence[Any]]) -> Reply:
        """`reply`, after a look at what the command TIME has said in it."""
        asked = self._monotonic()
        found = await reply
        answered = self._monotonic()
        unsure_s = (answered - asked) / 2
        # A slow answer says little: what was known better before holds on, but less so from second to second.
        if self._offset is None or unsure_s <= self._unsure_s + DRIFT * (answered - self._measured_at):
            self._offset = _unix(time_in(found)) - (asked + answered) / 2
            self._unsure_s, self._measured_at = unsure_s, answered
        return found


def _unix(time: Sequence[Any]) -> float:
    """Unix seconds of a reply to the command TIME."""
    return int(time[0]) + int(time[1]) / 1_000_000
