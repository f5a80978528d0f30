"""Reads the state of jobs that the scripts write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from service.contracts import ClipScores, JobRecord, JobState, JobStatus
from service.errors import DeadlineExceeded, JobDeleted, ResultExpired, UnknownJob
from service.queue.clip_entries import ClipEntry
from service.queue.codec import Outcome, decode_scores
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys
from service.queue.scored_job import ScoredJob, scored_job


class JobReader:
    """Reads jobs. Every method raises QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, result_ttl_s: int) -> None:
        self._redis = redis
        self._keys = keys
        self._result_ttl_s = result_ttl_s

    async def check_owner(self, job_id: str, allowed: Callable[[str], bool]) -> None:
        """Raise UnknownJob unless the job exists and its owner is `allowed`: others do not learn of it."""
        with translate_redis_errors():
            fields: Any = await self._redis.hmget(self._keys.job(job_id), "total", "owner")
        total, found = fields
        if total is None or not allowed((found or b"").decode()):
            raise unknown(job_id)

    async def deleted(self, job_id: str) -> bool:
        """Whether the job's owner has cancelled or deleted it."""
        with translate_redis_errors():
            finished: Any = await self._redis.hget(self._keys.job(job_id), "finished")
        return bool(finished == b"cancelled")

    async def scored(self, job_id: str, entries: Iterable[ClipEntry] = ()) -> ScoredJob | None:
        """Record and all clip scores of a job; None while some are missing or once it is finished."""
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hmget(self._keys.job(job_id), "record", "total")
            pipe.hgetall(self._keys.scores(job_id))
            (data, total), scores = await pipe.execute()
        if data is None or len(scores) < int(total):
            return None
        return scored_job(job_id, data, scores, list(entries))

    async def record(self, job_id: str) -> JobRecord | None:
        """The record of a job that is not finished; None for any other."""
        with translate_redis_errors():
            data: Any = await self._redis.hget(self._keys.job(job_id), "record")
        return None if data is None else JobRecord.model_validate_json(data)

    async def scores_of(self, job_id: str, clips: Sequence[int]) -> dict[int, ClipScores]:
        """The scores of those of the clips that have them; none once the job has ended."""
        if not clips:
            return {}
        with translate_redis_errors():
            found: Any = await self._redis.hmget(self._keys.scores(job_id), [str(clip) for clip in clips])
        return {clip: decode_scores(data) for clip, data in zip(clips, found, strict=True) if data is not None}

    async def outcome(self, job_id: str) -> Outcome | None:
        """The job's outcome, or None while it has none."""
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(self._keys.outcome(job_id))
            pipe.hget(self._keys.job(job_id), "finished")
            data, finished = await pipe.execute()
        if finished == b"cancelled":
            return Outcome(JobState.CANCELLED, error=_deleted(job_id))
        return None if data is None else Outcome.decode(data)

    async def status(self, job_id: str) -> JobStatus:
        """The status of the job. Raises UnknownJob, JobDeleted, or ResultExpired once its result is gone."""
        keys = self._keys
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hmget(keys.job(job_id), "total", "created_at", "deadline_at", "model", "version", "finished")
            pipe.hlen(keys.scores(job_id))
            pipe.get(keys.outcome(job_id))
            pipe.time()
            fields, done, data, (seconds, _) = await pipe.execute()
        if fields[0] is None:
            raise unknown(job_id)
        total = int(fields[0])
        if fields[5] == b"cancelled":
            raise _deleted(job_id)
        if data is None and fields[5] is not None:
            detail = f"The result of job {job_id} was kept for {self._result_ttl_s} s and has expired."
            raise ResultExpired(detail, limit=self._result_ttl_s)
        ended = None if data is None else Outcome.decode(data)
        if ended is None and seconds >= float(fields[2]):
            # The next sweep will write the same outcome.
            ended = overdue(float(fields[2]))
        state = ended.state if ended else JobState.RUNNING if done else JobState.QUEUED
        return JobStatus(
            id=job_id,
            status=state,
            created_at=float(fields[1]),
            deadline_at=float(fields[2]),
            clips_total=total,
            clips_done=total if state is JobState.SUCCEEDED else done,
            model=fields[3].decode(),
            version=fields[4].decode(),
            result=ended.result if ended else None,
            error=ended.error.to_dict() if ended and ended.error else None,
        )


def overdue(deadline_at: float) -> Outcome:
    """The outcome of a job whose deadline, in Unix seconds, has passed."""
    text = "the job's deadline passed before all its clips were scored"
    return Outcome(JobState.EXPIRED, error=DeadlineExceeded(text, actual=deadline_at))


def unknown(job_id: str) -> UnknownJob:
    """The error for a job that does not exist, or not for this caller."""
    return UnknownJob(f"No job has the id {job_id!r}.")


def _deleted(job_id: str) -> JobDeleted:
    return JobDeleted(f"Job {job_id} was cancelled or deleted by its owner.")
