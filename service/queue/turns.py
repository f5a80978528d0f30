"""Whose turn it is: chores of an installation are done by one of its processes, whichever it is.

A process that has the turn keeps it until it ends, or stands still: then the next that asks has it. The others ask
seldom, so chores cost Redis hardly more with 2,000 processes than with 2.
"""

from __future__ import annotations

import time
from random import SystemRandom
from uuid import uuid4

from redis.asyncio import Redis

from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script

# A turn is over when nobody has kept it for so many intervals of its chore.
LIFE_INTERVALS = 4
_random = SystemRandom()


class Turn:
    """The turn to do one chore every `every_s`. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, chore: str, every_s: float) -> None:
        self._key = keys.turn(chore)
        self._every_s = every_s
        self._holder = uuid4().hex
        self._take = Script(redis, "take_turn")
        self._end = Script(redis, "end_turn")
        self._mine = False
        self._asked_at = 0.0
        self._ask_at = 0.0
        self._due_at = 0.0

    async def mine(self) -> bool:
        """Whether this process has the turn. Asks Redis once in an interval; where another has it, when that ends."""
        now = time.monotonic()
        if now >= self._ask_at:
            life_ms = max(1, int(LIFE_INTERVALS * self._every_s * 1000))
            with translate_redis_errors():
                others_ms = int(
                    await self._take(keys={"turn": self._key}, args={"holder": self._holder, "life_ms": life_ms})
                )
            self._mine, self._asked_at = others_ms == 0, now
            wait_s = 0.0 if self._mine else others_ms / 1000 + _random.uniform(0.0, self._every_s)
            self._ask_at = now + max(wait_s, self._every_s)
        # A process that stood still may have lost it.
        return self._mine and now < self._asked_at + LIFE_INTERVALS * self._every_s

    async def due(self) -> bool:
        """Whether to do the chore now: this process has the turn and has not done it for an interval."""
        now = time.monotonic()
        if now < self._due_at or not await self.mine():
            return False
        self._due_at = now + self._every_s
        return True

    async def end(self) -> None:
        """Let another process have the turn at once."""
        if self._mine:
            self._mine = False
            with translate_redis_errors():
                await self._end(keys={"turn": self._key}, args={"holder": self._holder})


class HelpedTurn:
    """A turn whose chore the other processes help with where it is late: they look for that now and then."""

    def __init__(self, redis: Redis, keys: RedisKeys, chore: str, every_s: float, late_s: float) -> None:
        """What has been due for `late_s` is late."""
        self._turn = Turn(redis, keys, chore, every_s)
        self._late_s = late_s
        self._help_at = 0.0
        self._helps = False

    async def looks(self) -> float | None:
        """For how many seconds what this process is to do now has been due; None where it is to look for nothing.

        Raises QueueUnavailable.
        """
        self._helps = not await self._turn.mine()
        if not self._helps:
            return 0.0
        return None if time.monotonic() < self._help_at else self._late_s

    def saw(self, *, any_due: bool) -> None:
        """Note whether anything was found by the look that `looks` allowed."""
        if self._helps:
            self._help_at = 0.0 if any_due else time.monotonic() + self._late_s * _random.uniform(1.0, 2.0)


class Chores:
    """The chores that workers and API processes share."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self.deadlines = Turn(redis, keys, "deadlines", 1.0)
        """end jobs whose deadline has passed"""
        self.letters = Turn(redis, keys, "letters", 10.0)
        """delete dead letters that are too old"""
        self.streams = Turn(redis, keys, "streams", 10.0)
        """delete streams that no worker reads"""
        self.consumers = Turn(redis, keys, "consumers", 30.0)
        """delete the consumers of lost workers"""

    async def end(self) -> None:
        """Let other processes have them at once."""
        for turn in (self.deadlines, self.letters, self.streams, self.consumers):
            await turn.end()
