"""Events of live streams that are still to be delivered to a webhook.

Of a stream no more is kept for its webhook than where its receiver is: the events are those that followers read, of
which so many are kept. A receiver gets one at a time, in their order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import KeyPrefixes, RedisKeys
from service.queue.scripts import Script
from service.queue.turns import HelpedTurn
from service.queue.webhook_queue import LATE_S, LOOK_S, claimed


@dataclass(frozen=True)
class StreamDelivery:
    """An event of a live stream, for its webhook. `at` is when it was told, in Unix seconds."""

    job_id: str
    """that of the stream"""
    url: str
    owner: str
    after: str
    """id of the event before it that was delivered"""
    event_id: str
    sequence: int
    """number of the event in its stream, from 1"""
    event: dict[str, Any]
    """`event` and `data`, as followers get them"""
    at: float
    attempts: int
    """tries so far, with the one for which it was claimed"""
    age_s: float

    @property
    def message_id(self) -> str:
        """The same for every try."""
        return f"{self.job_id}-{self.event_id}"

    @property
    def type(self) -> str:
        """The type of its message: `stream.window`, `stream.dropped`, or a state such as `stream.ended`."""
        kind = self.event["event"]
        return f"stream.{self.event['data']['state'] if kind == 'state' else kind}"

    @property
    def data(self) -> dict[str, Any]:
        """What its message says."""
        return {"id": self.job_id, "event_id": self.event_id, "sequence": self.sequence, **self.event}


class StreamWebhookQueue:
    """Deliveries of the live streams of one partition. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._prefixes = KeyPrefixes(keys)
        self._turn = HelpedTurn(redis, keys, "stream-webhooks", LOOK_S, LATE_S)
        self._claim = Script(redis, "claim_stream_webhooks")
        self._done = Script(redis, "stream_webhook_done")
        self._again = Script(redis, "stream_webhook_again")

    async def claim(self, count: int, lease_s: float) -> list[StreamDelivery]:
        """The next event of up to `count` streams, which no other process gets for `lease_s`.

        Where it is another process' turn, those that have been due for `LATE_S`, and none at all for most of the time.
        """
        now, found = await claimed(
            self._turn,
            self._claim,
            self._keys.stream_webhooks,
            count,
            lease_s,
            webhook_prefix=self._prefixes.stream_webhook,
            events_prefix=self._prefixes.live_events,
        )
        return [_delivery(now, *one) for one in found]

    async def done(self, delivery: StreamDelivery, *, gone: bool = False) -> bool:
        """Note that an event has arrived, or was given up; whether its stream has another.

        No further one is for a receiver that is `gone`.
        """
        keys, stream_id = self._keys, delivery.job_id
        with translate_redis_errors():
            if gone:
                await self._redis.delete(keys.stream_webhook(stream_id))
                return False
            more: Any = await self._done(
                keys={**self._of(stream_id), "events": keys.live_events(stream_id)},
                args={"id": stream_id, "after": delivery.after, "delivered": delivery.event_id},
            )
        return bool(more)

    async def postpone(self, delivery: StreamDelivery, in_s: float) -> None:
        """Give a delivery back that was claimed and not tried, to be claimed again later."""
        await self._at(delivery, in_s, delivery.attempts - 1)

    async def again(self, delivery: StreamDelivery, in_s: float) -> None:
        """Try a delivery again later, unless another process has delivered it meanwhile."""
        await self._at(delivery, in_s, delivery.attempts)

    async def _at(self, delivery: StreamDelivery, in_s: float, attempts: int) -> None:
        with translate_redis_errors():
            await self._again(
                keys=self._of(delivery.job_id),
                args={"id": delivery.job_id, "after": delivery.after, "delay": in_s, "attempts": attempts},
            )

    def _of(self, stream_id: str) -> dict[str, str]:
        return {"webhooks": self._keys.stream_webhooks, "webhook": self._keys.stream_webhook(stream_id)}


def _delivery(now: float, stream_id: bytes, hook: list[bytes], attempts: int, event: list[Any]) -> StreamDelivery:
    (url, owner, after), (event_id, parts) = hook, event
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    at = int(event_id.partition(b"-")[0]) / 1000
    return StreamDelivery(
        job_id=stream_id.decode(),
        url=url.decode(),
        owner=owner.decode(),
        after=after.decode(),
        event_id=event_id.decode(),
        sequence=int(fields[b"sequence"]),
        event=json.loads(fields[b"event"]),
        at=at,
        attempts=attempts,
        age_s=max(0.0, now - at),
    )
