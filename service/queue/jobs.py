"""The job store: accept a job, keep its clip scores, finish it once, say how it stands."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.contracts import ClipScores, JobRecord, JobState, JobStatus
from service.errors import ResultExpired, UnknownJob
from service.queue.codec import Outcome, decode_scores, encode_scores
from service.queue.connection import reported
from service.queue.keys import Keys

# Payloads are sent in pieces of about this size: a 200-clip job would otherwise be buffered whole a second time.
PIPELINE_BYTES = 8 << 20

# Whoever sets the outcome first finishes the job; the rest of the clean-up must not happen without it, nor twice.
FINISH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'finished', '1')
redis.call('HDEL', KEYS[1], 'record')
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
"""


@dataclass(frozen=True)
class JobTimes:
    """Lives of what the store keeps, in seconds."""

    payload_ttl_s: int
    result_ttl_s: int
    tombstone_ttl_s: int


class JobStore:
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached or is out of memory."""

    def __init__(self, redis: Redis, keys: Keys, times: JobTimes) -> None:
        self._redis = redis
        self._keys = keys
        self._times = times
        self._finish = redis.register_script(FINISH)

    async def waiting(self, model: str) -> int:
        """Clips of `model` that are queued or being scored."""
        with reported():
            return int(await self._redis.xlen(self._keys.clips(model)))

    async def oldest_age_s(self, model: str) -> float:
        """Seconds since the oldest clip of `model` was put into its queue; 0 when there is none."""
        with reported():
            first: Any = await self._redis.xrange(self._keys.clips(model), count=1)
        if not first:
            return 0.0
        return max(0.0, time.time() - int(first[0][0].split(b"-")[0]) / 1000)

    async def put_payloads(self, job_id: str, clips: memoryview, clip_bytes: int) -> None:
        """Store the raw bytes of a job's clips, `clip_bytes` each, before the job is accepted."""
        step = max(1, PIPELINE_BYTES // clip_bytes)
        count = len(clips) // clip_bytes
        with reported():
            for first in range(0, count, step):
                pipe = self._redis.pipeline(transaction=False)
                for i in range(first, min(first + step, count)):
                    piece = clips[i * clip_bytes : (i + 1) * clip_bytes]
                    pipe.set(self._keys.payload(job_id, i), piece, ex=self._times.payload_ttl_s)
                await pipe.execute()

    async def accept(self, record: JobRecord) -> None:
        """Commit the job's record and all its stream entries in one transaction: from here on the job is not lost."""
        keys, spec = self._keys, record.spec
        entry: dict[Any, Any] = {
            "v": record.schema_version,
            "job": record.id,
            "version": spec.version,
            "shape": ",".join(map(str, record.decoded.clip_shape)),
            "enqueued_at": record.enqueued_at,
            "deadline_at": record.deadline_at,
        }
        total = len(record.decoded.clips)
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(
                keys.job(record.id),
                mapping={
                    "v": record.schema_version,
                    "record": record.model_dump_json(),
                    "model": spec.name,
                    "version": spec.version,
                    "total": total,
                    "created_at": record.created_at,
                    "deadline_at": record.deadline_at,
                },
            )
            pipe.expire(keys.job(record.id), self._times.tombstone_ttl_s)
            for clip in range(total):
                pipe.xadd(keys.clips(spec.name), {**entry, "clip": clip})
            await pipe.execute()

    async def record_scores(self, scores: Mapping[tuple[str, int], ClipScores]) -> list[str]:
        """Keep the scores of `(job id, clip)`; return the jobs whose last clip this was. Repeating it is harmless."""
        jobs = sorted({job for job, _ in scores})
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            for (job, clip), value in scores.items():
                pipe.hset(self._keys.scores(job), str(clip), encode_scores(value))
            for job in jobs:
                pipe.expire(self._keys.scores(job), self._times.payload_ttl_s)
                pipe.hlen(self._keys.scores(job))
                pipe.hget(self._keys.job(job), "total")
            replies = await pipe.execute()
        tail = replies[len(scores) :]
        return [
            job
            for job, (_, done, total) in zip(jobs, zip(*[iter(tail)] * 3, strict=True), strict=True)
            if total is not None and done >= int(total)
        ]

    async def scored(self, job_id: str) -> tuple[JobRecord, list[ClipScores]] | None:
        """Record and all clip scores of a complete job, in clip order; None when somebody finished it already."""
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hget(self._keys.job(job_id), "record")
            pipe.hgetall(self._keys.scores(job_id))
            record, scores = await pipe.execute()
        if record is None:
            return None
        by_clip = {int(clip): decode_scores(value) for clip, value in scores.items()}
        return JobRecord.model_validate_json(record), [by_clip[i] for i in sorted(by_clip)]

    async def finish(self, job_id: str, outcome: Outcome) -> bool:
        """Write the job's outcome and wake its waiters; False when the job is unknown or had one already."""
        keys, times = self._keys, self._times
        with reported():
            won = await self._finish(
                keys=[keys.job(job_id), keys.outcome(job_id), keys.scores(job_id)],
                args=[outcome.encode(), times.result_ttl_s, times.tombstone_ttl_s, keys.finished, job_id],
            )
        return bool(won)

    async def outcome(self, job_id: str) -> Outcome | None:
        """The job's outcome, or None while it has none."""
        with reported():
            data: Any = await self._redis.get(self._keys.outcome(job_id))
        return None if data is None else Outcome.decode(data)

    async def status(self, job_id: str) -> JobStatus:
        """How the job stands. Raises UnknownJob, or ResultExpired once its result is gone."""
        keys = self._keys
        with reported():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hmget(keys.job(job_id), "total", "created_at", "deadline_at", "model", "version", "finished")
            pipe.hlen(keys.scores(job_id))
            pipe.get(keys.outcome(job_id))
            fields, done, data = await pipe.execute()
        if fields[0] is None:
            detail = f"no job has the id {job_id!r}"
            raise UnknownJob(detail)
        total = int(fields[0])
        if data is None and fields[5] is not None:
            detail = f"the result of job {job_id} was kept for {self._times.result_ttl_s} s and is gone"
            raise ResultExpired(detail, limit=self._times.result_ttl_s)
        ended = None if data is None else Outcome.decode(data)
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
