"""Webhooks that are still to be delivered. They stand in Redis, so that they outlive whoever tries to deliver them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobState
from service.queue.clock import NOW
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

# A delivery is taken by moving it into the future: when its sender dies it is due again.
# KEYS: due deliveries. ARGV: how long nobody else gets it, most deliveries, prefix of their keys.
CLAIM = (
    NOW
    + """
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local key = ARGV[3] .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', KEYS[1], id)
  else
    redis.call('ZADD', KEYS[1], now + ARGV[1], id)
    redis.call('HINCRBY', key, 'attempts', 1)
    claimed[#claimed + 1] = {id, redis.call('HMGET', key, 'url', 'owner', 'state', 'at', 'attempts')}
  end
end
return {string.format('%.6f', now), claimed}
"""
)

# A job that was replayed ends a second time, perhaps while its first end is still being told: what became of that one
# says nothing about the new one.
# KEYS: due deliveries, the delivery. ARGV: job, when it ended.
DONE = """
if tonumber(redis.call('HGET', KEYS[2], 'at')) == tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
end
"""

# KEYS and ARGV: as those of DONE, then in how many seconds, and how many tries there were.
AGAIN = (
    NOW
    + """
if tonumber(redis.call('HGET', KEYS[2], 'at')) == tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[2], 'attempts', ARGV[4])
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
end
"""
)


@dataclass(frozen=True)
class WebhookDelivery:
    """A job has ended and its webhook is to be told. `at` is when it ended, in Unix seconds."""

    job_id: str
    url: str
    owner: str
    state: JobState
    at: float
    attempts: int
    """tries so far, with the one for which it was claimed"""
    age_s: float = 0.0
    """seconds since the job ended, when it was claimed"""

    @property
    def message_id(self) -> str:
        """The same for every try, another one when a job ends again after a replay."""
        return f"{self.job_id}-{int(self.at * 1000)}"


class WebhookQueue:
    """Deliveries of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._claim = redis.register_script(CLAIM)
        self._done = redis.register_script(DONE)
        self._again = redis.register_script(AGAIN)

    async def claim(self, count: int, lease_s: float) -> list[WebhookDelivery]:
        """Up to `count` deliveries that are due; nobody else gets them for `lease_s`."""
        with translate_redis_errors():
            reply: Any = await self._claim(keys=[self._keys.webhooks], args=[lease_s, count, self._keys.webhook("")])
        now, found = float(reply[0]), reply[1]
        return [
            WebhookDelivery(
                job_id.decode(),
                url.decode(),
                owner.decode(),
                JobState(state.decode()),
                float(at),
                int(attempts),
                max(0.0, now - float(at)),
            )
            for job_id, (url, owner, state, at, attempts) in found
        ]

    async def done(self, delivery: WebhookDelivery) -> None:
        """Forget a delivery: it has arrived, or has been given up."""
        with translate_redis_errors():
            await self._done(keys=self._of(delivery), args=[delivery.job_id, delivery.at])

    async def postpone(self, delivery: WebhookDelivery, in_s: float) -> None:
        """Give a delivery back that was claimed and not tried, to be claimed again later."""
        await self._at(delivery, in_s, delivery.attempts - 1)

    async def again(self, delivery: WebhookDelivery, in_s: float) -> None:
        """Try a delivery again later, unless its job has been deleted, or has ended again, meanwhile."""
        await self._at(delivery, in_s, delivery.attempts)

    async def _at(self, delivery: WebhookDelivery, in_s: float, attempts: int) -> None:
        with translate_redis_errors():
            await self._again(keys=self._of(delivery), args=[delivery.job_id, delivery.at, in_s, attempts])

    def _of(self, delivery: WebhookDelivery) -> list[str]:
        return [self._keys.webhooks, self._keys.webhook(delivery.job_id)]
