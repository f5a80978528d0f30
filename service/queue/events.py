"""The history of a job as numbered events that can be read again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobState
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

# Both numbers of an id of a Redis stream have 64 bits, and not every number of 20 digits has.
EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


def place(event_id: str) -> tuple[int, ...]:
    """Where an event stands in its history, to be compared."""
    return tuple(map(int, event_id.split("-")))


def is_event_id(text: str) -> bool:
    """Whether Redis can have given an event this id."""
    return EVENT_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class JobEvent:
    """A job reached a state, with so many of its clips scored."""

    id: str
    state: JobState
    clips_done: int

    @property
    def final(self) -> bool:
        """Whether nothing comes after it, unless the job is replayed from the dead letters."""
        return JobState(self.state).is_final


class JobEvents:
    """The events of one installation's jobs. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def since(self, job_id: str, last_id: str | None) -> list[JobEvent]:
        """The events after the one with `last_id`, oldest first; all that are kept where it is None."""
        with translate_redis_errors():
            entries: Any = await self._redis.xrange(
                self._keys.events(job_id), min="-" if last_id is None else f"({last_id}"
            )
        return [
            JobEvent(entry_id.decode(), JobState(fields[b"state"].decode()), int(fields[b"done"]))
            for entry_id, fields in entries
        ]
