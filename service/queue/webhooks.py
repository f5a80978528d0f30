"""Webhooks that are still to be delivered. They stand in Redis, so that they outlive whoever tries to deliver them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobState
from service.queue.clock import NOW
from service.queue.connection import reported
from service.queue.keys import Keys

# A delivery is taken by moving it into the future: when its sender dies it is due again.
# KEYS: due deliveries. ARGV: now, when it is due again, most deliveries, prefix of their keys.
CLAIM = """
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local key = ARGV[4] .. id
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', KEYS[1], id)
  else
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    redis.call('HINCRBY', key, 'attempts', 1)
    claimed[#claimed + 1] = {id, redis.call('HMGET', key, 'url', 'owner', 'state', 'at', 'attempts')}
  end
end
return claimed
"""

# KEYS: due deliveries, the delivery. ARGV: job, when it ended, in how many seconds it is due again.
POSTPONE = (
    NOW
    + """
if tonumber(redis.call('HGET', KEYS[2], 'at')) == tonumber(ARGV[2]) then
  redis.call('HINCRBY', KEYS[2], 'attempts', -1)
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
end
"""
)


@dataclass(frozen=True)
class Delivery:
    """A job has ended and its webhook is to be told. `at` is when it ended, in Unix seconds."""

    job_id: str
    url: str
    owner: str
    state: JobState
    at: float
    attempts: int
    """tries so far, with the one for which it was claimed"""

    @property
    def message_id(self) -> str:
        """The same for every try, another one when a job ends again after a replay."""
        return f"{self.job_id}-{int(self.at * 1000)}"


class WebhookQueue:
    """Deliveries of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._claim = redis.register_script(CLAIM)
        self._postpone = redis.register_script(POSTPONE)

    async def claim(self, count: int, lease_s: float) -> list[Delivery]:
        """Up to `count` deliveries that are due; nobody else gets them for `lease_s`."""
        now = time.time()
        with reported():
            found: Any = await self._claim(
                keys=[self._keys.webhooks], args=[now, now + lease_s, count, self._keys.webhook("")]
            )
        return [
            Delivery(job_id.decode(), url.decode(), owner.decode(), JobState(state.decode()), float(at), int(attempts))
            for job_id, (url, owner, state, at, attempts) in found
        ]

    async def done(self, delivery: Delivery) -> None:
        """Forget a delivery: it has arrived, or has been given up."""
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(self._keys.webhooks, delivery.job_id)
            pipe.delete(self._keys.webhook(delivery.job_id))
            await pipe.execute()

    async def postpone(self, delivery: Delivery, in_s: float) -> None:
        """Give a delivery back that was claimed and not tried, to be claimed again later."""
        with reported():
            await self._postpone(
                keys=[self._keys.webhooks, self._keys.webhook(delivery.job_id)],
                args=[delivery.job_id, delivery.at, in_s],
            )

    async def again(self, delivery: Delivery, in_s: float) -> None:
        """Try a delivery again later, unless its job has been deleted meanwhile."""
        with reported():
            await self._redis.zadd(self._keys.webhooks, {delivery.job_id: time.time() + in_s}, xx=True)
