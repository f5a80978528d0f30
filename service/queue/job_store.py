"""The job store: what `service.queue.job_intake` took in keeps its clip scores and is finished once, or erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.contracts import ClipScores
from service.queue.clip_entries import ClipEntry
from service.queue.codec import Outcome, encode_scores
from service.queue.connection import Call, run_all, translate_redis_errors
from service.queue.job_intake import JobIntake, JobTimes
from service.queue.job_reader import overdue, unknown
from service.queue.job_scripts import CANCEL, FINISH, OVERDUE, RECORD, RECORD_FAULT
from service.queue.redis_keys import GROUP, RedisKeys
from service.queue.scored_job import ScoredJob, by_job, scored_job

SWEPT_AT_ONCE = 100
# Larger outcomes are fetched by those who want them: what is published waits in Redis' memory for a slow listener.
MAX_PUBLISHED_BYTES = 1 << 16


class End(NamedTuple):
    """How a job ends."""

    job_id: str
    outcome: Outcome
    entries: Sequence[ClipEntry] = ()
    """stream entries of the job that are to go with it"""
    recorded: bool = True
    """whether the scores of these entries were kept by `record_scores` before"""


class JobStore(JobIntake):
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached or is out of memory."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTimes) -> None:
        super().__init__(redis, keys, times)
        self._cancel = redis.register_script(CANCEL)
        self._record = redis.register_script(RECORD)
        self._record_failure = redis.register_script(RECORD_FAULT)
        self._finish = redis.register_script(FINISH)
        self._overdue = redis.register_script(OVERDUE)

    async def cancel(self, job_id: str) -> bool:
        """Erase a job: its result, scores, clips, dead letter, Idempotency-Key and place in the result cache.

        True when it was still unfinished. Raises UnknownJob.
        """
        keys = self._keys
        with translate_redis_errors():
            found = await self._cancel(
                keys=[*self._of_job(job_id), keys.dead, keys.dead_job(job_id)],
                args=[job_id, keys.finished, self._times.tombstone_ttl_s, keys.payload(job_id, "")],
            )
        if not found:
            raise unknown(job_id)
        return bool(found == 2)

    async def record_scores(
        self, scores: Mapping[tuple[str, int], ClipScores], entries: Iterable[ClipEntry] = ()
    ) -> list[ScoredJob]:
        """Keep the scores of `(job id, clip)` and free the payloads; return the jobs that have all their scores.

        Repeating it is harmless. Scores of a job that is finished or unknown are not kept. `entries` are the stream
        entries of these clips: those of jobs that are not returned are removed, the others belong to `finish_all`.
        """
        keys = self._keys
        of_job = by_job(entries)
        calls: list[Call] = []
        jobs = sorted({job for job, _ in scores})
        for job in jobs:
            clips = [clip for owner, clip in scores if owner == job]
            arguments: list[Any] = [self._times.payload_ttl_s, keys.progress, job, GROUP, len(clips)]
            for clip in clips:
                arguments += [clip, encode_scores(scores[job, clip])]
            payloads = [keys.payload(job, clip) for clip in clips]
            stream, ids = self._to_remove(of_job[job])
            calls.append(([keys.job(job), keys.scores(job), keys.events(job), *payloads, *stream], [*arguments, *ids]))
        found = await run_all(self._redis, self._record, calls)
        return [
            scored_job(job, reply[0], dict(zip(reply[1][::2], reply[1][1::2], strict=True)), of_job[job])
            for job, reply in zip(jobs, found, strict=True)
            if reply
        ]

    async def finish(self, job_id: str, outcome: Outcome) -> bool:
        """Write the job's outcome and wake its waiters; False when the job is unknown or had one already."""
        return (await self.finish_all([End(job_id, outcome)]))[0]

    async def finish_all(self, ends: Sequence[End]) -> list[bool]:
        """`finish` for several jobs at once; in the same step as each its stream entries are removed."""
        keys, times = self._keys, self._times
        calls: list[Call] = []
        for job_id, outcome, entries, recorded in ends:
            stream, ids = self._to_remove(entries)
            payloads = [] if recorded else [keys.payload(job_id, entry.clip) for entry in entries]
            arguments = [
                outcome.encode(),
                times.result_ttl_s,
                times.tombstone_ttl_s,
                keys.finished,
                job_id,
                outcome.state,
                GROUP,
                keys.reply_channel(""),
                MAX_PUBLISHED_BYTES,
                keys.payload(job_id, ""),
                *ids,
            ]
            calls.append(([*self._of_job(job_id), *stream, *payloads], arguments))
        return [bool(won) for won in await run_all(self._redis, self._finish, calls)]

    def _to_remove(self, entries: Sequence[ClipEntry]) -> tuple[list[str], list[str]]:
        """The stream of a job's entries, if there are any, and their ids."""
        streams = {self._keys.clips(entry.route, entry.job_class) for entry in entries}
        return list(streams), [entry.entry_id for entry in entries]

    async def record_failure(self, job_id: str, failure: str) -> None:
        """Remember what went wrong with clips of the job that were given back, for when they are given up."""
        with translate_redis_errors():
            await self._record_failure(keys=[self._keys.job(job_id)], args=[failure])

    async def expire_overdue(self) -> list[str]:
        """Finish jobs whose deadline has passed, wherever their clips are; returns those that ended by this call."""
        expired: list[str] = []
        while True:
            with translate_redis_errors():
                late: Any = await self._overdue(keys=[self._keys.deadlines], args=[SWEPT_AT_ONCE])
            ends = [
                End(job.decode(), overdue(float(deadline_at)))
                for job, deadline_at in zip(late[::2], late[1::2], strict=True)
            ]
            expired += [end.job_id for end, won in zip(ends, await self.finish_all(ends), strict=True) if won]
            if len(ends) < SWEPT_AT_ONCE:
                return expired

    def _of_job(self, job_id: str) -> list[str]:
        """The first seven keys of CANCEL and of FINISH."""
        keys = self._keys
        return [
            keys.job(job_id),
            keys.outcome(job_id),
            keys.scores(job_id),
            keys.deadlines,
            keys.events(job_id),
            keys.webhooks,
            keys.webhook(job_id),
        ]
