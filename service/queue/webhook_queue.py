"""Webhooks of jobs and batches, still to be delivered. They are in Redis, so that they outlive their process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis

from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import KeyPrefixes, RedisKeys
from service.queue.scripts import Script
from service.queue.turns import HelpedTurn

# How often the process looks whose turn it is, and after what time others help it.
LOOK_S = 0.5
LATE_S = 2.0

Kind = Literal["job", "batch"]


@dataclass(frozen=True)
class WebhookDelivery:
    """The webhook of a job or a batch that has ended. `at` is the time of its end, in Unix seconds."""

    job_id: str
    """or that of the batch"""
    url: str
    owner: str
    state: str
    """how it ended, such as `succeeded`"""
    at: float
    attempts: int
    """tries so far, with the one for which it was claimed"""
    age_s: float = 0.0
    """seconds since the job ended, when it was claimed"""
    kind: Kind = "job"

    @property
    def message_id(self) -> str:
        """The same for every try, another one when a job ends again after a replay."""
        return f"{self.job_id}-{int(self.at * 1000)}"

    @property
    def type(self) -> str:
        """The type of its message."""
        return f"{self.kind}.{self.state}"

    @property
    def data(self) -> dict[str, Any]:
        """What its message says."""
        return {"id": self.job_id, "status": self.state}


async def claimed(
    turn: HelpedTurn, claim: Script, webhooks: str, count: int, lease_s: float, **prefixes: str
) -> tuple[float, list[Any]]:
    """The time of Redis, and up to `count` of what is due in the sorted set `webhooks`, claimed for `lease_s`."""
    late_s = await turn.looks()
    if late_s is None:
        return 0.0, []
    with translate_redis_errors():
        reply: Any = await claim(
            keys={"webhooks": webhooks}, args={"lease": lease_s, "late": late_s, "count": count, **prefixes}
        )
    now, found = float(reply[0]), reply[1]
    turn.saw(any_due=bool(found))
    return now, found


class WebhookQueue:
    """Deliveries of one installation. Methods raise QueueUnavailable when Redis cannot be reached.

    One process claims what is due, as long as it keeps up; others look now and then for what is late.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, kind: Kind = "job") -> None:
        self._redis = redis
        self._kind = kind
        prefixes = KeyPrefixes(keys)
        of_jobs = kind == "job"
        # Processes of earlier releases know nothing of batches, and look among the jobs.
        self._webhooks = keys.webhooks if of_jobs else keys.batch_webhooks
        self._webhook_prefix = prefixes.webhook if of_jobs else prefixes.batch_webhook
        self._turn = HelpedTurn(redis, keys, "webhooks" if of_jobs else "batch-webhooks", LOOK_S, LATE_S)
        self._claim = Script(redis, "claim_webhooks")
        self._done = Script(redis, "webhook_done")
        self._again = Script(redis, "webhook_again")

    async def claim(self, count: int, lease_s: float) -> list[WebhookDelivery]:
        """Up to `count` deliveries that are due; no other process gets them for `lease_s`.

        Where it is another process' turn, those that have been due for `LATE_S`, and none at all for most of the time.
        """
        now, found = await claimed(
            self._turn, self._claim, self._webhooks, count, lease_s, webhook_prefix=self._webhook_prefix
        )
        return [
            WebhookDelivery(
                job_id.decode(),
                url.decode(),
                owner.decode(),
                state.decode(),
                float(at),
                int(attempts),
                max(0.0, now - float(at)),
                self._kind,
            )
            for job_id, (url, owner, state, at, attempts) in found
        ]

    async def done(self, delivery: WebhookDelivery, *, gone: bool = False) -> bool:
        """Delete a delivery that has arrived, or was given up, because its receiver is `gone` or not. False."""
        with translate_redis_errors():
            await self._done(keys=self._of(delivery), args={"id": delivery.job_id, "ended_at": delivery.at})
        return False

    async def postpone(self, delivery: WebhookDelivery, in_s: float) -> None:
        """Give a delivery back that was claimed and not tried, to be claimed again later."""
        await self._at(delivery, in_s, delivery.attempts - 1)

    async def again(self, delivery: WebhookDelivery, in_s: float) -> None:
        """Try a delivery again later, unless its job has been deleted, or has ended again, meanwhile."""
        await self._at(delivery, in_s, delivery.attempts)

    async def _at(self, delivery: WebhookDelivery, in_s: float, attempts: int) -> None:
        with translate_redis_errors():
            await self._again(
                keys=self._of(delivery),
                args={"id": delivery.job_id, "ended_at": delivery.at, "delay": in_s, "attempts": attempts},
            )

    def _of(self, delivery: WebhookDelivery) -> dict[str, str]:
        return {"webhooks": self._webhooks, "webhook": f"{self._webhook_prefix}{delivery.job_id}"}
