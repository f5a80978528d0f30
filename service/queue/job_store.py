"""The job store: accepted jobs get their clip scores and are finished once, or erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.contracts import ClipScores, JobRecord
from service.queue.clip_entries import ClipEntry
from service.queue.codec import Outcome, encode_scores
from service.queue.connection import run_all, translate_redis_errors
from service.queue.job_intake import JobTtlConfig
from service.queue.job_list import listed_as
from service.queue.job_reader import overdue, unknown
from service.queue.redis_keys import GROUP, RedisKeys
from service.queue.scored_job import ScoredJob, by_job, scored_job
from service.queue.scripts import Call, Script
from service.queue.staged_intake import StagedIntake

SWEPT_AT_ONCE = 100
# Larger outcomes are fetched by the waiters: published messages occupy Redis' memory until a slow listener reads them.
MAX_PUBLISHED_BYTES = 1 << 16


class End(NamedTuple):
    """How a job ends."""

    job_id: str
    outcome: Outcome
    entries: Sequence[ClipEntry] = ()
    """stream entries of the job that are to go with it"""
    recorded: bool = True
    """whether the scores of these entries were kept by `record_scores` before"""


class JobStore(StagedIntake):
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached or is out of memory."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTtlConfig) -> None:
        super().__init__(redis, keys, times)
        self._reply_prefix = keys.reply_channel("")
        self._cancel = Script(redis, "cancel")
        self._record = Script(redis, "record_scores")
        self._record_failure = Script(redis, "record_fault")
        self._finish = Script(redis, "finish")
        self._overdue = Script(redis, "overdue")

    async def cancel(self, job_id: str) -> bool:
        """Erase a job: its result, scores, clips, dead letter, Idempotency-Key and place in the result cache.

        True when it was still unfinished. Raises UnknownJob.
        """
        keys = self._keys
        with translate_redis_errors():
            found = await self._cancel(
                keys={**self._of_job(job_id), "letters": keys.dead, "kept": keys.dead_job(job_id)},
                args={
                    "id": job_id,
                    "channel": keys.finished,
                    "life": self._times.tombstone_ttl_s,
                    "payload_prefix": keys.payload(job_id, ""),
                    "news": keys.news(job_id),
                    "ended_prefix": keys.ended_channel(""),
                    "held_prefix": self._prefixes.held,
                },
            )
        if not found:
            raise unknown(job_id)
        return bool(found == 2)

    async def keep(self, job_id: str, life_s: int) -> None:
        """Let the job and its outcome live for `life_s` from now on, where they would live shorter."""
        names = self._keys.job(job_id), self._keys.outcome(job_id)
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.ttl(name)
            lives = await pipe.execute()
            for name, left in zip(names, lives, strict=True):
                if 0 <= left < life_s:
                    await self._redis.expire(name, life_s)

    async def forget(self, record: JobRecord) -> None:
        """Leave no trace of a job that has ended or was erased: `GET` of it finds nothing, and no list has it."""
        keys = self._keys
        with translate_redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.unlink(keys.job(record.id), keys.events(record.id))
                pipe.zrem(keys.jobs(record.owner), listed_as(record.created_at, record.id))
                await pipe.execute()

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
            stream, ids = self._to_remove(of_job[job])
            calls.append(
                Call(
                    {
                        "job": keys.job(job),
                        "scores": keys.scores(job),
                        "events": keys.events(job),
                        "payload_keys": [keys.payload(job, clip) for clip in clips],
                        "stream": stream,
                    },
                    {
                        "life": self._times.payload_ttl_s,
                        "channel": keys.progress,
                        "id": job,
                        "group": GROUP,
                        "count": len(clips),
                        "news": keys.news(job),
                        "numbers_and_scores": [
                            part for clip in clips for part in (clip, encode_scores(scores[job, clip]))
                        ],
                        "entries": ids,
                    },
                )
            )
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
            calls.append(
                Call(
                    {**self._of_job(job_id), "stream": stream, "payload_keys": payloads},
                    {
                        "result": outcome.encode(),
                        "result_life": times.result_ttl_s,
                        "life": times.tombstone_ttl_s,
                        "channel": keys.finished,
                        "id": job_id,
                        "state": outcome.state,
                        "group": GROUP,
                        "reply_prefix": self._reply_prefix,
                        "max_published": MAX_PUBLISHED_BYTES,
                        "payload_prefix": keys.payload(job_id, ""),
                        "news": keys.news(job_id),
                        "ended_prefix": keys.ended_channel(""),
                        "held_prefix": self._prefixes.held,
                        "entries": ids,
                    },
                )
            )
        return [bool(won) for won in await run_all(self._redis, self._finish, calls)]

    def _to_remove(self, entries: Sequence[ClipEntry]) -> tuple[list[str], list[str]]:
        """The stream of a job's entries, if there are any, and their ids."""
        streams = {self._keys.clips(entry.route, entry.job_class) for entry in entries}
        return list(streams), [entry.entry_id for entry in entries]

    async def record_failure(self, job_id: str, failure: str) -> None:
        """Remember why clips of the job were given back, for the error of the job where they are given up."""
        with translate_redis_errors():
            await self._record_failure(keys={"job": self._keys.job(job_id)}, args={"failure": failure})

    async def expire_overdue(self) -> list[str]:
        """Finish jobs whose deadline has passed, wherever their clips are; returns those that this call has ended."""
        expired: list[str] = []
        while True:
            with translate_redis_errors():
                late: Any = await self._overdue(keys={"deadlines": self._keys.deadlines}, args={"count": SWEPT_AT_ONCE})
            ends = [
                End(job.decode(), overdue(float(deadline_at)))
                for job, deadline_at in zip(late[::2], late[1::2], strict=True)
            ]
            expired += [end.job_id for end, won in zip(ends, await self.finish_all(ends), strict=True) if won]
            if len(ends) < SWEPT_AT_ONCE:
                return expired

    def _of_job(self, job_id: str) -> dict[str, str]:
        """The keys that `cancel` and `finish` have in common."""
        keys = self._keys
        return {
            "job": keys.job(job_id),
            "outcome": keys.outcome(job_id),
            "scores": keys.scores(job_id),
            "deadlines": keys.deadlines,
            "events": keys.events(job_id),
            "webhooks": keys.webhooks,
            "webhook": keys.webhook(job_id),
        }
