"""The jobs of one caller, newest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from service.contracts import JobState, JobSummary
from service.errors import InvalidOption, QueueUnavailable
from service.queue.connection import translate_redis_errors
from service.queue.partitions import Partition, PerPartition, ask_all

Read = TypeVar("Read")

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
    """The jobs of each owner, of all partitions together. Methods raise QueueUnavailable where one of them is away.

    A list without the jobs of one partition would be a wrong list, and its cursor would skip them for good.
    """

    def __init__(self, partitions: PerPartition[Partition]) -> None:
        self._partitions = partitions

    async def page(self, owner: str, cursor: str | None, limit: int) -> Page:
        """Up to `limit` jobs of `owner` that are older than `cursor`, without deleted and expired ones.

        New jobs appear on the first page only. Raises InvalidOption for an unknown cursor.
        """
        if cursor is not None and not PLACE.fullmatch(cursor):
            raise InvalidOption("Option 'cursor' is not the `next_cursor` of a page.", actual=cursor)
        before = "+" if cursor is None else f"({cursor}"
        found = await self._in_all(lambda partition: _places(partition, owner, before, limit + 1))
        places = sorted((place for of_one in found for place in of_one), reverse=True)
        ids = [place.partition("-")[2] for place in places[:limit]]
        summaries: dict[str, JobSummary] = {}
        for of_one in await self._in_all(
            lambda partition: _summaries(partition, [one for one in ids if self._partitions.of(one) is partition])
        ):
            summaries |= of_one
        jobs = [summaries[job_id] for job_id in ids if job_id in summaries]
        return Page(jobs, places[limit - 1] if len(places) > limit else None)

    async def _in_all(self, read: Callable[[Partition], Coroutine[Any, Any, Read]]) -> list[Read]:
        replies: list[Read] = []
        for reply in await ask_all(self._partitions, read):
            if isinstance(reply, QueueUnavailable):
                raise reply
            replies.append(reply)
        return replies


async def _places(partition: Partition, owner: str, before: str, count: int) -> list[str]:
    with translate_redis_errors():
        found: Any = await partition.redis.zrevrangebylex(partition.keys.jobs(owner), before, "-", start=0, num=count)
    return [place.decode() for place in found]


async def _summaries(partition: Partition, ids: Sequence[str]) -> dict[str, JobSummary]:
    """The jobs that are there and not deleted, by their ids."""
    if not ids:
        return {}
    keys = partition.keys
    with translate_redis_errors():
        pipe = partition.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(keys.job(job_id), "total", "created_at", "deadline_at", "model", "version", "finished", "state")
            pipe.hlen(keys.scores(job_id))
        pipe.time()
        *facts, (now, _) = await pipe.execute()
    found = {job[0]: _summary(*job, now) for job in zip(ids, facts[::2], facts[1::2], strict=True)}
    return {job_id: summary for job_id, summary in found.items() if summary is not None}


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
