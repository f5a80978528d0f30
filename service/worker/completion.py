"""From scored clips to finished jobs. Every step may be repeated: a clip scored twice counts once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import structlog

from service.aggregate import aggregate
from service.contracts import ClipScores, DeadLetter, JobRecord, JobResult, JobState
from service.errors import DeadlineExceeded, VidtrError
from service.queue.clip_entries import ClipEntry
from service.queue.clip_stream import ClipStream
from service.queue.clock import Clock
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import End, JobStore
from service.queue.scored_job import ScoredJob, by_job
from service.signatures import Signer
from service.telemetry import metrics
from service.worker.served_models import ServedModels
from service.worker.triage import LoadedClip, Triage, Verdict

log = structlog.get_logger()


class Completion:
    """Writes the scores or the failure of clips, finishes jobs, and only then acknowledges the stream entries.

    The order matters: a worker that dies before the acknowledgement leaves entries that another worker takes up again.
    """

    def __init__(
        self, store: JobStore, stream: ClipStream, dead: DeadLetters, clock: Clock, signer: Signer | None = None
    ) -> None:
        """Jobs end at the time of `clock`. Their answers are signed by `signer`, where there is one."""
        self._store = store
        self._stream = stream
        self._dead = dead
        self._clock = clock
        self._signer = signer

    async def settle(self, triage: Sequence[Triage], served: ServedModels) -> list[LoadedClip]:
        """Settle every entry that is not to be scored, and return the clips of the others.

        `served` are the models by which they were judged.
        """
        by_verdict: defaultdict[Verdict, list[ClipEntry]] = defaultdict(list)
        for one in triage:
            by_verdict[one.verdict].append(one.entry)
        if foreign := by_verdict[Verdict.FOREIGN]:
            await self.nack(foreign)
        for one in triage:
            if one.error is not None:
                await self.failed(one.entry, one.error)
        if dropped := by_verdict[Verdict.DROP]:
            metrics.CLIPS.labels("dropped").inc(len(dropped))
            await self._stream.ack(dropped)
        await self._scored_before(by_verdict[Verdict.SCORED_BEFORE], served)
        return [one.clip for one in triage if one.clip is not None]

    async def scored(
        self, scores: Mapping[ClipEntry, ClipScores], complete_records: Mapping[str, bytes], served: ServedModels
    ) -> None:
        """Keep the scores, and finish each job whose last clip is among them with the labels of the served model.

        `complete_records` has the records, by job id, of jobs that had no scores before and may have all of them now.
        """
        finished: list[ScoredJob] = []
        partly: list[ClipEntry] = []
        for job_id, entries in by_job(scores).items():
            record = JobRecord.model_validate_json(data) if (data := complete_records.get(job_id)) else None
            if record is not None and len(entries) == record.units:
                in_order = [scores[entry] for entry in sorted(entries, key=lambda entry: entry.clip)]
                finished.append(ScoredJob(job_id, record, in_order, entries, recorded=False))
            else:
                partly += entries
        if partly:
            by_clip = {(entry.job_id, entry.clip): scores[entry] for entry in partly}
            finished += await self._store.record_scores(by_clip, partly)
        await self._finish(finished, served)
        metrics.CLIPS.labels("scored").inc(len(scores))

    async def failed(self, entry: ClipEntry, error: VidtrError) -> None:
        """End the clip's job. One that is not merely late becomes a dead letter."""
        late = isinstance(error, DeadlineExceeded)
        state = JobState.EXPIRED if late else JobState.FAILED
        outcome = Outcome(state, error=error)
        if late:
            ended = await self._store.finish(entry.job_id, outcome)
        else:
            ended = await self._dead.add(_letter(entry, error, self._clock.now()), outcome)
            metrics.DEAD_LETTERS.inc(int(ended))
        if ended:
            metrics.JOBS.labels(state).inc()
            log.warning("job_failed", job=entry.job_id, state=state, code=error.code, detail=error.detail)
        metrics.CLIPS.labels(state).inc()
        await self._stream.ack([entry])

    async def nack(self, entries: Collection[ClipEntry], failure: str | None = None) -> None:
        """Give entries back to the queue at once. `failure` is the reason where it counts as a failed delivery."""
        if failure is not None:
            for job_id in {entry.job_id for entry in entries}:
                await self._store.record_failure(job_id, failure)
        await self._stream.nack(entries, failed=failure is not None)

    async def sweep(self) -> None:
        """Expire the jobs whose deadline has passed."""
        for job_id in await self._store.expire_overdue():
            metrics.JOBS.labels(JobState.EXPIRED).inc()
            log.warning("job_failed", job=job_id, state=JobState.EXPIRED, code=DeadlineExceeded.code)

    async def trim(self) -> None:
        """Delete dead letters that are too old."""
        await self._dead.trim()

    async def _scored_before(self, entries: Sequence[ClipEntry], served: ServedModels) -> None:
        """Entries that have their scores: the worker that wrote them may have died before it finished the job."""
        unfinished = []
        for job_id, of_job in by_job(entries).items():
            if found := await self._store.scored(job_id, of_job):
                unfinished.append(found)
            else:
                await self._stream.ack(of_job)
        await self._finish(unfinished, served)

    async def _finish(self, jobs: Sequence[ScoredJob], served: ServedModels) -> None:
        results = [self._answer(job, served) for job in jobs]
        won = await self._store.finish_all(
            [
                End(job.id, Outcome(JobState.SUCCEEDED, result=result), job.entries, job.recorded)
                for job, result in zip(jobs, results, strict=True)
            ]
        )
        for job, result, first in zip(jobs, results, won, strict=True):
            if first:
                metrics.JOBS.labels(JobState.SUCCEEDED).inc()
                metrics.STAGE.labels("total").observe(result.timings_ms.total / 1000)
                log.info(
                    "job_succeeded", job=job.id, request_id=job.record.request_id, total_ms=result.timings_ms.total
                )

    def _answer(self, job: ScoredJob, served: ServedModels) -> JobResult:
        result = aggregate(job.record, served.of(job.record.spec), job.scores, self._clock.now())
        if self._signer is None:
            return result
        return result.model_copy(update={"signature": self._signer.sign(result.document)})


def _letter(entry: ClipEntry, error: VidtrError, created_at: float) -> DeadLetter:
    return DeadLetter(
        job_id=entry.job_id,
        clip=entry.clip,
        code=error.code,
        detail=error.detail,
        model=entry.model,
        version=entry.version,
        deliveries=entry.deliveries,
        created_at=created_at,
        clip_bytes=math.prod(entry.shape),
    )
