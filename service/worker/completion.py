"""From scored clips to finished jobs. Every step may be repeated: a clip scored twice counts once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog

from service.aggregate import aggregate
from service.contracts import ClipScores, JobState
from service.errors import DeadlineExceeded, VidtrError
from service.queue.codec import Outcome
from service.queue.jobs import JobStore
from service.queue.stream import ClipEntry, ClipStream
from service.telemetry import metrics

log = structlog.get_logger()


class Completion:
    """Writes what became of clips, finishes jobs, and only then acknowledges the stream entries.

    The order matters: a worker that dies before the acknowledgement leaves entries that another worker scores again.
    """

    def __init__(self, store: JobStore, stream: ClipStream) -> None:
        self._store = store
        self._stream = stream

    async def scored(self, scores: Mapping[ClipEntry, ClipScores]) -> None:
        """Keep the scores, and finish each job whose last clip is among them."""
        complete = await self._store.record_scores(
            {(entry.job_id, entry.clip): value for entry, value in scores.items()}
        )
        for job_id in complete:
            await self._finish(job_id)
        metrics.CLIPS.labels("scored").inc(len(scores))
        await self._stream.ack(list(scores))

    async def failed(self, entries: Sequence[ClipEntry], error: VidtrError) -> None:
        """Fail the jobs of these clips."""
        state = JobState.EXPIRED if isinstance(error, DeadlineExceeded) else JobState.FAILED
        for job_id in sorted({entry.job_id for entry in entries}):
            if await self._store.finish(job_id, Outcome(state, error=error)):
                metrics.JOBS.labels(state).inc()
                log.warning("job_failed", job=job_id, state=state, code=error.code, detail=error.detail)
        metrics.CLIPS.labels(state).inc(len(entries))
        await self._stream.ack(entries)

    async def _finish(self, job_id: str) -> None:
        found = await self._store.scored(job_id)
        if found is None:
            return
        record, scores = found
        result = aggregate(record, scores, time.time())
        if await self._store.finish(job_id, Outcome(JobState.SUCCEEDED, result=result)):
            metrics.JOBS.labels(JobState.SUCCEEDED).inc()
            metrics.STAGE.labels("total").observe(result.timings_ms.total / 1000)
            log.info("job_succeeded", job=job_id, request_id=record.request_id, total_ms=result.timings_ms.total)
