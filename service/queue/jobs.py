"""The job store: accept a job, keep its clip scores, finish it once, say how it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis

from service.contracts import ClipScores, JobRecord
from service.errors import IdempotencyInProgress, QueueUnavailable
from service.queue.codec import Outcome, encode_scores
from service.queue.connection import RETRY_AFTER_S, Call, reported, run_all, whole
from service.queue.idempotency import Claim
from service.queue.job_scripts import ACCEPT, CANCEL, FINISH, NOTE, OVERDUE, RECORD
from service.queue.keys import GROUP, Keys
from service.queue.listing import listed_as
from service.queue.room import Reservation
from service.queue.scored import ScoredJob, by_job, scored_job
from service.queue.standing import JobReader, overdue, unknown
from service.queue.stream import ClipEntry

# Payloads are sent in pieces of about this size: a 200-clip job would otherwise be buffered whole a second time.
PIPELINE_BYTES = 8 << 20
# Clips of a job up to this size come with it, in one step.
TOGETHER_BYTES = 1 << 20
# Share of its reservation's life that a clip lives before its job is accepted. Reservations are renewed when a third of
# their life is over: nothing is ever in Redis that no reservation counts.
UNACCEPTED_SHARE = 2 / 3
SWEPT_AT_ONCE = 100
# Larger outcomes are fetched by those who want them: what is published waits in Redis' memory for a slow listener.
TOLD_BYTES = 1 << 16


@dataclass(frozen=True)
class JobTimes:
    """Lives of what the store keeps, in seconds."""

    payload_ttl_s: int
    result_ttl_s: int
    tombstone_ttl_s: int
    idempotency_ttl_s: int
    reservation_ttl_s: float = 30.0


class End(NamedTuple):
    """How a job ends."""

    job_id: str
    outcome: Outcome
    entries: Sequence[ClipEntry] = ()
    """stream entries of the job that are to go with it"""
    recorded: bool = True
    """whether the scores of these entries were kept by `record_scores` before"""


class Clips(Protocol):
    """The raw bytes of a job's clips, one after the other: in memory, or read where they are sliced."""

    def __len__(self) -> int:
        """Bytes in all."""

    def __getitem__(self, piece: slice, /) -> bytes | memoryview:
        """The bytes of a slice without a step."""


def entry_fields(record: JobRecord, clip: int, *, followed: bool = False) -> dict[Any, Any]:
    """The stream entry of one clip of a job; `followed` says that clips of other jobs come soon."""
    return {
        "v": record.schema_version,
        "job": record.id,
        "version": record.spec.version,
        "weights": record.spec.weights_sha256,
        "shape": ",".join(map(str, record.decoded.clip_shape)),
        "enqueued_at": record.enqueued_at,
        "trace": record.trace,
        "deadline_at": record.deadline_at,
        "clip": clip,
        "followed": int(followed),
    }


class JobStore(JobReader):
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached or is out of memory."""

    def __init__(self, redis: Redis, keys: Keys, times: JobTimes) -> None:
        super().__init__(redis, keys, times.result_ttl_s)
        self._times = times
        self._accept = redis.register_script(ACCEPT)
        self._cancel = redis.register_script(CANCEL)
        self._record = redis.register_script(RECORD)
        self._note = redis.register_script(NOTE)
        self._finish = redis.register_script(FINISH)
        self._overdue = redis.register_script(OVERDUE)

    async def put_payloads(self, job_id: str, clips: Clips, clip_bytes: int, life_s: float | None = None) -> None:
        """Store the raw bytes of a job's clips, `clip_bytes` each, before the job is accepted.

        They live `life_s`, or as long as those of an accepted job. Cancelled, it returns once nothing writes any more.
        """
        life_ms = int(1000 * (self._times.payload_ttl_s if life_s is None else life_s))
        step = max(1, PIPELINE_BYTES // clip_bytes)
        numbered = enumerate(_pieces(clips, clip_bytes))
        with reported():
            while some := list(islice(numbered, step)):
                pipe = self._redis.pipeline(transaction=False)
                for i, piece in some:
                    pipe.set(self._keys.payload(job_id, i), piece, px=life_ms)
                await whole(pipe.execute())

    async def accept(
        self,
        record: JobRecord,
        *,
        clips: Clips | None = None,
        reservation: Reservation | None = None,
        claim: Claim | None = None,
        fingerprint: str = "",
        same: str | None = None,
        home: str = "",
        followed: bool = False,
    ) -> None:
        """Commit the job's record and all its stream entries in one step: from here on the job is not lost.

        `clips` are the raw bytes of all its clips; without them they are there already, by `put_payloads`.
        The reserved room passes to the entries, and the claimed Idempotency-Key leads to the job from now on. `same` is
        the key of the result cache that goes when the job is erased. `home` is the `ResultBus` that is to get the
        outcome with the news of it. `followed` says that other jobs come soon.

        Raises IdempotencyInProgress when the claim has meanwhile gone to another request, and QueueUnavailable when
        the reservation lapsed and took clips with it; then no job was made.
        """
        keys, spec = self._keys, record.spec
        total, route = len(record.decoded.clips), spec.route or spec.name
        job: dict[str, Any] = {
            "v": record.schema_version,
            "record": record.model_dump_json(),
            "model": spec.name,
            "version": spec.version,
            "total": total,
            "created_at": record.created_at,
            "deadline_at": record.deadline_at,
            "owner": record.owner,
        }
        if record.request.webhook is not None:
            job["webhook"] = record.request.webhook
        if claim is not None:
            job["idempotency"] = claim.key
        if same is not None:
            job["same"] = same
        if home:
            job["home"] = home
        entries = [entry_fields(record, clip, followed=followed) for clip in range(total)]
        payloads: dict[str, bytes | memoryview] = {}
        if clips is not None and len(clips) > TOGETHER_BYTES:
            await self.put_payloads(record.id, clips, spec.clip_bytes, UNACCEPTED_SHARE * self._times.reservation_ttl_s)
            payloads = {keys.payload(record.id, i): memoryview(b"") for i in range(total)}
        elif clips is not None:
            payloads = {keys.payload(record.id, i): piece for i, piece in enumerate(_pieces(clips, spec.clip_bytes))}
        with reported():
            committed = await self._accept(
                keys=[
                    keys.job(record.id),
                    keys.clips(route, record.job_class),
                    keys.deadlines,
                    keys.reserved,
                    keys.events(record.id),
                    keys.jobs(record.owner),
                    keys.routes,
                    *payloads,
                    *([claim.key] if claim else []),
                ],
                args=[
                    claim.token if claim else "",
                    claim.accepted(record.id, fingerprint) if claim else "",
                    self._times.idempotency_ttl_s,
                    self._times.tombstone_ttl_s,
                    record.id,
                    record.deadline_at,
                    reservation.member if reservation else "",
                    2 * len(job),
                    2 * len(entries[0]),
                    self._times.payload_ttl_s,
                    listed_as(record.created_at, record.id),
                    listed_as(record.created_at - self._times.tombstone_ttl_s, ""),
                    route,
                    len(payloads),
                    *payloads.values(),
                    *(part for fields in (job, *entries) for pair in fields.items() for part in pair),
                ],
            )
        if committed < 0:
            detail = "the upload was held up for longer than its clips are kept before their job is accepted"
            raise QueueUnavailable(detail, limit=self._times.reservation_ttl_s, retry_after_s=RETRY_AFTER_S)
        if not committed:
            detail = "another request with this Idempotency-Key took over while this one was held up"
            raise IdempotencyInProgress(detail, retry_after_s=2.0)

    async def cancel(self, job_id: str) -> bool:
        """Erase a job: its result, scores, clips, dead letter, Idempotency-Key and place in the result cache.

        True when it was still unfinished. Raises UnknownJob.
        """
        keys = self._keys
        with reported():
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
                keys.answers(""),
                TOLD_BYTES,
                keys.payload(job_id, ""),
                *ids,
            ]
            calls.append(([*self._of_job(job_id), *stream, *payloads], arguments))
        return [bool(won) for won in await run_all(self._redis, self._finish, calls)]

    def _to_remove(self, entries: Sequence[ClipEntry]) -> tuple[list[str], list[str]]:
        """The stream of a job's entries, if there are any, and their ids."""
        streams = {self._keys.clips(entry.route, entry.job_class) for entry in entries}
        return list(streams), [entry.entry_id for entry in entries]

    async def note_fault(self, job_id: str, fault: str) -> None:
        """Remember what went wrong with clips of the job that were given back, for when they are given up."""
        with reported():
            await self._note(keys=[self._keys.job(job_id)], args=[fault])

    async def expire_overdue(self) -> list[str]:
        """Finish jobs whose deadline has passed, wherever their clips are; returns those that ended by this call."""
        expired: list[str] = []
        while True:
            with reported():
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


def _pieces(clips: Clips, clip_bytes: int) -> Iterator[bytes | memoryview]:
    return (clips[start : start + clip_bytes] for start in range(0, len(clips) - clip_bytes + 1, clip_bytes))
