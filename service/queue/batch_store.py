"""Batches in Redis: what they are made of, which lines have ended and how, and which process drives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from service.contracts import BatchLine, BatchRecord, LineOutcome
from service.errors import RETRY_AFTER_S, IdempotencyKeyReused, InvalidOption, TooManyBatches, UnknownBatch
from service.queue.batch_facts import FIELDS, BatchFacts, EndedLine, read
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scripts import Script
from service.queue.turns import Turn

PLACE = re.compile(r"[0-9]{10,12}\.[0-9]{6}")


@dataclass(frozen=True)
class BatchConfig:
    """How long a batch may take, how long it and its webhook are kept after its end, in seconds; how many a caller may
    have open.

    Field names equal those of `service.settings.Settings`.
    """

    batch_deadline_s: int
    batch_ttl_s: int
    max_open_batches: int
    tombstone_ttl_s: int = 86_400

    @property
    def life_s(self) -> int:
        """How long a batch is kept that does not end."""
        return self.batch_deadline_s + self.batch_ttl_s


class BatchStore:
    """The batches of one partition. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, config: BatchConfig) -> None:
        self._redis = redis
        self._keys = keys
        self._config = config
        self._open = Script(redis, "open_batch")
        self._begin = Script(redis, "begin_line")
        self._end = Script(redis, "end_line")

    async def open(self, record: BatchRecord, lines: Sequence[BatchLine]) -> None:
        """Accept a batch. Repeating it is harmless.

        Raises TooManyBatches; IdempotencyKeyReused where another batch has its id.
        """
        keys, most = self._keys, self._config.max_open_batches
        with translate_redis_errors():
            found: Any = await self._open(
                keys={
                    "batch": keys.batch(record.id),
                    "lines": keys.batch_lines(record.id),
                    "batches": keys.batches,
                    "open_batches": keys.open_batches(record.owner),
                    "listed": keys.batches_of(record.owner),
                },
                args={
                    "id": record.id,
                    "digest": record.digest,
                    "most": most,
                    "life": self._config.life_s,
                    "record": record.model_dump_json(exclude_none=True),
                    "closing": "1" if record.destination or record.webhook else "",
                    "numbers_and_lines": [
                        part for line in lines for part in (line.line, line.model_dump_json(exclude_defaults=True))
                    ],
                },
            )
        if isinstance(found, int):
            detail = f"{found} batches of this caller are open; the limit is {most}. Wait until one ends or cancel one."
            raise TooManyBatches(detail, limit=most, actual=found, retry_after_s=RETRY_AFTER_S)
        if found.decode() != record.digest:
            raise IdempotencyKeyReused(
                "This Idempotency-Key belongs to a batch with another manifest or other options. Use a new key."
            )

    async def facts(self, batch_id: str) -> BatchFacts:
        """How a batch stands. Raises UnknownBatch."""
        [facts] = await self._facts([batch_id])
        if facts is None:
            raise UnknownBatch(f"No batch has the id {batch_id!r}.")
        return facts

    async def page(self, owner: str, cursor: str | None, limit: int) -> tuple[list[BatchFacts], str | None]:
        """Batches of an owner, newest first, from `cursor` on; and the cursor of those after them.

        Raises InvalidOption for an unknown cursor.
        """
        if cursor is not None and not PLACE.fullmatch(cursor):
            raise InvalidOption("Option `cursor` is not the `next_cursor` of a page.", actual=cursor)
        before = "+inf" if cursor is None else f"({cursor}"
        with translate_redis_errors():
            # By scores, which the types of redis-py do not know.
            found: Any = await self._redis.zrange(
                self._keys.batches_of(owner),
                before,
                "-inf",
                desc=True,
                byscore=True,
                offset=0,
                num=limit + 1,
                withscores=True,
            )
        facts = await self._facts([one.decode() for one, _ in found[:limit]])
        more = f"{found[limit - 1][1]:.6f}" if len(found) > limit else None
        return [one for one in facts if one is not None], more

    async def open_ids(self) -> list[str]:
        """The open batches, the oldest first. Of those that expired the places are removed."""
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.zrange(self._keys.batches, 0, -1, withscores=True)
            (now, _), found = await pipe.execute()
            expired = [one for one, until in found if until <= now]
            if expired:
                await self._redis.zrem(self._keys.batches, *expired)
        return [one.decode() for one, until in found if until > now]

    def lease(self, batch_id: str, every_s: float) -> Turn:
        """The turn to drive a batch, to be asked for `every_s`."""
        return Turn(self._redis, self._keys, f"batch:{batch_id}", every_s)

    async def start(self, batch_id: str, now: float) -> None:
        """Note that a batch was begun, unless it was before."""
        key = self._keys.batch(batch_id)
        with translate_redis_errors():
            fields: Any = await self._redis.hmget(key, "digest", "started_at")
            if fields[0] is not None and fields[1] is None:
                await self._redis.hset(key, "started_at", repr(now))

    async def left(self, batch_id: str) -> tuple[list[BatchLine], dict[int, str]]:
        """The lines that have not ended, in order, and the jobs of those that a process began before."""
        keys = self._keys
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hgetall(keys.batch_lines(batch_id))
            pipe.zrange(keys.batch_ended(batch_id), 0, -1)
            pipe.hgetall(keys.batch_running(batch_id))
            lines, ended, running = await pipe.execute()
        numbers = sorted(lines.keys() - set(ended), key=int)
        return (
            [BatchLine.model_validate_json(lines[number]) for number in numbers],
            {int(number): job.decode() for number, job in running.items() if job},
        )

    async def begin_line(self, batch_id: str, line: int, job: str = "") -> bool:
        """Note that a line is worked on, and its job once it has one. False where the line has ended."""
        keys = self._keys
        with translate_redis_errors():
            begun: Any = await self._begin(
                keys={"outcomes": keys.batch_outcomes(batch_id), "running": keys.batch_running(batch_id)},
                args={"line": line, "job": job, "life": self._config.life_s},
            )
        return bool(begun)

    async def end_line(self, record: BatchRecord, line: int, outcome: LineOutcome) -> str | None:
        """End a line, once. Its job, '' where it had none running; None where the line had ended before."""
        # Its job is to be cancelled, whichever of the replies arrives.
        call = "" if outcome.status == "succeeded" else uuid4().hex
        keys, batch_id = self._keys, record.id
        with translate_redis_errors():
            job: Any = await self._end(
                keys={
                    "batch": keys.batch(batch_id),
                    "lines": keys.batch_lines(batch_id),
                    "outcomes": keys.batch_outcomes(batch_id),
                    "running": keys.batch_running(batch_id),
                    "ended": keys.batch_ended(batch_id),
                    "batches": keys.batches,
                    "open_batches": keys.open_batches(record.owner),
                },
                args={
                    "id": batch_id,
                    "line": line,
                    "outcome": outcome.model_dump_json(exclude_none=True),
                    "status": outcome.status,
                    "life": self._config.batch_ttl_s,
                    "call": call,
                },
            )
        return None if job is None else job.decode()

    async def cancel(self, batch_id: str, now: float) -> None:
        """Let no further line begin. Those that have not ended are for the caller to end."""
        with translate_redis_errors():
            await self._redis.hset(self._keys.batch(batch_id), "cancelled_at", repr(now))

    async def close(self, facts: BatchFacts, undelivered: str = "") -> None:
        """Of a batch that has ended: nothing is left to be done but to deliver its webhook.

        Its results are written to its destination, or will not be, for the reason `undelivered`.
        """
        keys, record = self._keys, facts.record
        with translate_redis_errors():
            seconds, microseconds = await self._redis.time()
            pipe = self._redis.pipeline(transaction=True)
            if record.destination is not None:
                at = repr(seconds + microseconds / 1e6)
                field, value = ("undelivered", undelivered) if undelivered else ("delivered_at", at)
                pipe.hset(keys.batch(record.id), field, value)
            for name in (keys.batch, keys.batch_lines, keys.batch_outcomes, keys.batch_ended):
                pipe.expire(name(record.id), self._config.batch_ttl_s)
            if record.webhook is not None:
                of_webhook = keys.batch_webhook(record.id)
                said = {"url": record.webhook, "owner": record.owner, "state": facts.state, "at": repr(facts.ended_at)}
                for field, value in said.items():
                    pipe.hset(of_webhook, field, value)
                pipe.expire(of_webhook, self._config.tombstone_ttl_s)
                pipe.zadd(keys.batch_webhooks, {record.id: facts.ended_at or 0.0})
            pipe.zrem(keys.batches, record.id)
            pipe.zrem(keys.open_batches(record.owner), record.id)
            await pipe.execute()

    async def ended(self, batch_id: str, after: int, limit: int) -> list[EndedLine]:
        """Up to `limit` lines that ended after the first `after` of them."""
        keys = self._keys
        with translate_redis_errors():
            numbers: Any = await self._redis.zrange(keys.batch_ended(batch_id), after, after + limit - 1)
            if not numbers:
                return []
            pipe = self._redis.pipeline(transaction=False)
            pipe.hmget(keys.batch_lines(batch_id), numbers)
            pipe.hmget(keys.batch_outcomes(batch_id), numbers)
            lines, outcomes = await pipe.execute()
        return [
            EndedLine(after + place, BatchLine.model_validate_json(line), LineOutcome.model_validate_json(outcome))
            for place, (line, outcome) in enumerate(zip(lines, outcomes, strict=True), 1)
            if line is not None and outcome is not None
        ]

    async def _facts(self, batch_ids: Sequence[str]) -> list[BatchFacts | None]:
        if not batch_ids:
            return []
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for batch_id in batch_ids:
                pipe.hmget(self._keys.batch(batch_id), *FIELDS)
                pipe.hlen(self._keys.batch_running(batch_id))
            found = await pipe.execute()
        return [read(fields, running) for fields, running in zip(found[::2], found[1::2], strict=True)]
