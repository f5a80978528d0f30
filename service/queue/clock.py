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


async def redis_time(redis: Redis) -> float:
    """The time of Redis in Unix seconds."""
    return _unix(await redis.time())


class Clock:
    """Redis' clock as far as this process knows it, so that asking costs no round trip.

    It continues from the last measurement by the machine's monotonic clock. Before the first one it is the machine's.
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
