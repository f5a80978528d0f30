"""The jobs of one caller, newest first, page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobState, JobSummary
from service.errors import InvalidOption
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

PLACE = re.compile(r"[0-9]{17}-[0-9a-f]{32}")


def listed_as(created_at: float, job_id: str) -> str:
    """The place of a job in its owner's list: text that sorts by time, then by id."""
    return f"{int(created_at * 1e6):017d}-{job_id}"


@dataclass(frozen=True)
class Page:
    """Some jobs, and the cursor of those that come after them; None where there are none."""

    jobs: list[JobSummary]
    next_cursor: str | None


class JobList:
    """The jobs of each owner. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def page(self, owner: str, cursor: str | None, limit: int) -> Page:
        """Up to `limit` jobs of `owner` that are older than `cursor`, without deleted and expired ones.

        New jobs appear on the first page only. Raises InvalidOption for an unknown cursor.
        """
        if cursor is not None and not PLACE.fullmatch(cursor):
            raise InvalidOption("Option 'cursor' is not the `next_cursor` of a page.", actual=cursor)
        keys = self._keys
        before = "+" if cursor is None else f"({cursor}"
        with translate_redis_errors():
            found: Any = await self._redis.zrevrangebylex(keys.jobs(owner), before, "-", start=0, num=limit + 1)
            places = [place.decode() for place in found]
            ids = [place.partition("-")[2] for place in places[:limit]]
            pipe = self._redis.pipeline(transaction=False)
            for job_id in ids:
                pipe.hmget(
                    keys.job(job_id), "total", "created_at", "deadline_at", "model", "version", "finished", "state"
                )
                pipe.hlen(keys.scores(job_id))
            pipe.time()
            *facts, (now, _) = await pipe.execute()
        jobs = [_summary(*job, now) for job in zip(ids, facts[::2], facts[1::2], strict=True)]
        return Page([job for job in jobs if job is not None], places[limit - 1] if len(places) > limit else None)


def _summary(job_id: str, fields: list[bytes | None], scored: int, now: float) -> JobSummary | None:
    total, created_at, deadline_at, model, version, finished, state = (field and field.decode() for field in fields)
    if total is None or finished == "cancelled":
        return None
    if finished and state:
        status = JobState(state)
    elif now >= float(deadline_at or 0):
        status = JobState.EXPIRED
    else:
        status = JobState.RUNNING if scored else JobState.QUEUED
    return JobSummary(
        id=job_id,
        status=status,
        created_at=float(created_at or 0),
        deadline_at=float(deadline_at or 0),
        clips_total=int(total),
        clips_done=int(total) if status is JobState.SUCCEEDED else scored,
        model=model or "",
        version=version or "",
    )
