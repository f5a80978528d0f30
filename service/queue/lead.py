"""Which workers wait at the streams: a few of them lead, the others follow.

Whenever a clip is queued, Redis looks again for every worker that waits at its stream: with hundreds of idle workers
that takes longer than all the rest of the step. So few wait there. A worker that finds work passes the lead on, which
wakes one that follows. Each follower also looks for work by itself, as often as a leader does, so a leader that dies
delays a clip by one such wait at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis

from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script

LEADERS = 4
"""of one route in one partition"""
# A lead ends when its worker has not kept it for so many waits.
LIFE_WAITS = 3


class Lead:
    """What one worker leads in one partition. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, worker: str) -> None:
        self._redis = redis
        self._keys = keys
        self._worker = worker
        self._take = Script(redis, "take_lead")
        self._pass = Script(redis, "pass_lead")
        self._routes: tuple[str, ...] = ()
        self._life_ms = 0
        self._until = 0.0
        self._crowded = False

    async def take(self, routes: Sequence[str], wait_ms: int) -> list[str]:
        """Those of `routes` at whose streams this worker may wait for `wait_ms`; none where it is to `follow`."""
        asked_at = asyncio.get_running_loop().time()
        if self._routes == tuple(routes) and asked_at + wait_ms / 1000 < self._until:
            return [*routes]
        self._routes, self._life_ms = tuple(routes), LIFE_WAITS * wait_ms
        with translate_redis_errors():
            crowded, *led = await self._take(
                keys=self._sets(), args={"worker": self._worker, "most": LEADERS, "life_ms": self._life_ms}
            )
        self._crowded = bool(crowded)
        self._until = asked_at + self._life_ms / 1000 if len(led) == len(routes) else 0.0
        return [routes[number - 1] for number in led]

    async def follow(self, wait_ms: int) -> None:
        """Wait until the lead is passed to this worker, `wait_ms` at most."""
        with translate_redis_errors():
            await self._redis.blpop([self._keys.promoted(self._worker)], timeout=wait_ms / 1000)

    async def pass_on(self) -> None:
        """Let another worker lead, since this one has work; does nothing where no other can be waiting for it."""
        if self._crowded:
            self._crowded, self._until = False, 0.0
            with translate_redis_errors():
                await self._pass(
                    keys=self._sets(),
                    args={
                        "worker": self._worker,
                        "promoted_prefix": self._keys.promoted(""),
                        "life_ms": self._life_ms,
                    },
                )

    def _sets(self) -> dict[str, list[str]]:
        return {
            "leaders": [self._keys.leaders(route) for route in self._routes],
            "followers": [self._keys.followers(route) for route in self._routes],
        }
