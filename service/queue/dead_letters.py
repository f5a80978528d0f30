"""Dead letters: jobs that failed because of one of their clips, kept for an operator to inspect and replay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from service.contracts import DeadLetter, JobRecord
from service.errors import UnknownDeadLetter
from service.queue.clock import redis_time
from service.queue.codec import Outcome
from service.queue.connection import translate_redis_errors
from service.queue.job_intake import JobTtlConfig, entry_fields
from service.queue.partitions import share_of
from service.queue.redis_keys import LETTER_CREATED_FIELD, KeyPrefixes, RedisKeys
from service.queue.scripts import Script

LISTED = 1000


@dataclass(frozen=True)
class DeadLetterConfig:
    """How long dead letters are kept, and how many, and how many bytes of clips with them."""

    dead_letter_ttl_s: int
    dead_letter_max_jobs: int
    dead_letter_max_bytes: int

    def share(self, partitions: int) -> DeadLetterConfig:
        """The limits of one of so many partitions."""
        letters = share_of(self.dead_letter_max_jobs, partitions)
        size = share_of(self.dead_letter_max_bytes, partitions)
        return replace(self, dead_letter_max_jobs=letters, dead_letter_max_bytes=size)


class DeadLetters:
    """The dead letters of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTtlConfig, limits: DeadLetterConfig) -> None:
        self._redis = redis
        self._keys = keys
        self._times = times
        self._limits = limits
        prefixes = KeyPrefixes(keys)
        self._held_prefix = prefixes.held
        self._prefixes = {
            "job_prefix": prefixes.job,
            "clip_prefix": prefixes.clip,
            "scores_prefix": prefixes.scores,
            "letter_prefix": prefixes.letter,
        }
        self._add = Script(redis, "add_dead_letter")
        self._trim = Script(redis, "trim_dead_letters")
        self._drop = Script(redis, "drop_dead_letter")
        self._replay = Script(redis, "replay")

    async def add(self, letter: DeadLetter, outcome: Outcome) -> bool:
        """End the job with `outcome` and keep it for a replay; False when it is unknown or has ended already.

        `letter.clip_bytes` is the size of one clip. Stored are the size of all clips that are kept, and the time of
        Redis as `created_at`.
        """
        keys, job_id = self._keys, letter.job_id
        fields = letter.model_dump(exclude={"clip_bytes", "created_at"})
        with translate_redis_errors():
            added = await self._add(
                keys={**self._of_job(job_id), "webhooks": keys.webhooks, "webhook": keys.webhook(job_id)},
                args={
                    "result": outcome.encode(),
                    "result_life": self._times.result_ttl_s,
                    "life": self._times.tombstone_ttl_s,
                    "letter_life": self._limits.dead_letter_ttl_s,
                    "channel": keys.finished,
                    "id": job_id,
                    "payload_prefix": keys.payload(job_id, ""),
                    "clip_bytes": letter.clip_bytes,
                    "news": keys.news(job_id),
                    "ended_prefix": keys.ended_channel(""),
                    "held_prefix": self._held_prefix,
                    "fields": [part for pair in fields.items() for part in pair],
                },
            )
        await self.trim()
        return bool(added)

    async def trim(self) -> None:
        """Delete letters that are too old, or more than are to be kept."""
        limits = self._limits
        with translate_redis_errors():
            await self._trim(
                keys={"letters": self._keys.dead},
                args={
                    "life": limits.dead_letter_ttl_s,
                    "max_letters": limits.dead_letter_max_jobs,
                    "max_bytes": limits.dead_letter_max_bytes,
                    **self._prefixes,
                },
            )

    async def letters(self) -> list[DeadLetter]:
        """All letters, newest first."""
        await self.trim()
        return await self._letters()

    async def show(self, job_id: str) -> tuple[DeadLetter, JobRecord]:
        """The letter of one job and the job's record. Raises UnknownDeadLetter."""
        letter = await self._find(job_id)
        return letter, JobRecord.model_validate_json(await self._record(job_id))

    async def replay(self, job_id: str) -> int:
        """Open the job again with its whole time and queue the clips that have no scores; returns their number.

        Raises UnknownDeadLetter where there is no such letter, or a clip that is needed is gone.
        """
        keys = self._keys
        await self._find(job_id)
        data = await self._record(job_id)
        old = JobRecord.model_validate_json(data)
        with translate_redis_errors():
            now = await redis_time(self._redis)
        record = old.model_copy(update={"enqueued_at": now, "deadline_at": now + (old.deadline_at - old.created_at)})
        entries = [entry_fields(record, clip) for clip in range(record.units)]
        route = record.spec.route or record.spec.name
        with translate_redis_errors():
            queued = await self._replay(
                keys={
                    **self._of_job(job_id),
                    "stream": keys.clips(route, record.job_class),
                    "routes": keys.routes,
                },
                args={
                    "id": job_id,
                    # With all that other releases have written and read.
                    "record": json.dumps(
                        {**json.loads(data), "enqueued_at": record.enqueued_at, "deadline_at": record.deadline_at}
                    ),
                    "deadline": record.deadline_at,
                    "payload_life": self._times.payload_ttl_s,
                    "payload_prefix": keys.payload(job_id, ""),
                    "route": route,
                    "replay": uuid4().hex,
                    "held_prefix": self._held_prefix,
                    "entry_fields": 2 * len(entries[0]),
                    "fields": [part for entry in entries for pair in entry.items() for part in pair],
                },
            )
        if not queued:
            detail = f"Job {job_id} cannot be replayed: some of its unscored clips are gone."
            raise UnknownDeadLetter(detail, actual=job_id)
        return int(queued)

    async def drop(self, job_id: str) -> None:
        """Delete the letter and the clips kept with it; the job stays failed. Raises UnknownDeadLetter."""
        await self._find(job_id)
        with translate_redis_errors():
            await self._drop(keys={"letters": self._keys.dead}, args={"id": job_id, **self._prefixes})

    def _of_job(self, job_id: str) -> dict[str, str]:
        """The keys that `add_dead_letter` and `replay` have in common."""
        keys = self._keys
        return {
            "job": keys.job(job_id),
            "outcome": keys.outcome(job_id),
            "scores": keys.scores(job_id),
            "deadlines": keys.deadlines,
            "letters": keys.dead,
            "kept": keys.dead_job(job_id),
            "events": keys.events(job_id),
        }

    async def _record(self, job_id: str) -> bytes:
        with translate_redis_errors():
            data: Any = await self._redis.hget(self._keys.dead_job(job_id), "record")
        if data is None:
            raise UnknownDeadLetter(f"The record of job {job_id} is gone.", actual=job_id)
        return bytes(data)

    async def _letters(self) -> list[DeadLetter]:
        with translate_redis_errors():
            entries: Any = await self._redis.xrevrange(self._keys.dead, count=LISTED)
        return [_letter(fields) for _, fields in entries]

    async def _find(self, job_id: str) -> DeadLetter:
        for letter in await self._letters():
            if letter.job_id == job_id:
                return letter
        raise UnknownDeadLetter(f"No dead letter is kept for job {job_id!r}.", actual=job_id)


def _letter(fields: Mapping[bytes, bytes]) -> DeadLetter:
    named = {name.decode(): value.decode() for name, value in fields.items()}
    return DeadLetter.model_validate({**named, "created_at": named[LETTER_CREATED_FIELD]})
