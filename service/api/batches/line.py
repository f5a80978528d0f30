"""From a line of a batch to a job, by the way of any request that names its video by URL."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import uuid4

from fastapi import Request
from starlette.types import Message

from service.api.auth import Principal
from service.api.classification import Classifier
from service.api.request_headers import WaitPolicy
from service.api.schemas import Source, VideoReference
from service.api.submission import Submission, Submitted
from service.api.upload_reference import REFERENCE_TYPE
from service.contracts import BatchLine, BatchRecord, JobState, LineOutcome, LineState
from service.errors import InternalError, UnknownJob, VidtrError
from service.queue.batch_store import BatchStore
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.result_bus import JobCompletion, ResultBus
from service.telemetry import metrics, traces

# A look at a job beside the message of its end, which may get lost.
LOOK_S = 5.0
# A process that stops ends all waits at once.
STOPPING_S = 0.5


def failed(error: VidtrError, job: str | None = None, status: LineState = "failed") -> LineOutcome:
    """The outcome of a line with an error."""
    return LineOutcome(status=status, job=job, error=error.to_dict())


class Lines:
    """Makes jobs of lines, and waits for their ends."""

    def __init__(
        self,
        classifier: Classifier,
        jobs: PerPartition[JobStore],
        buses: PerPartition[ResultBus],
        deadline_s: float,
        life_s: int,
    ) -> None:
        """`deadline_s` is what one job may take; its result is kept for `life_s`."""
        self._classifier = classifier
        self._jobs = jobs
        self._buses = buses
        self._deadline_s = deadline_s
        self._life_s = life_s

    async def run(
        self, store: BatchStore, batch: BatchRecord, caller: Principal, line: BatchLine, job: str, stop: asyncio.Event
    ) -> LineOutcome | None:
        """How the line ended; None where it has an outcome already, or once `stop` is set.

        Args:
            store: where the batch is.
            batch: what it was opened with.
            caller: its sender, whose shares and quotas the job counts towards.
            line: which line.
            job: the job that was made of it before; empty where there is none.
            stop: set when this process drives the batch no more.

        Raises:
            VidtrError: what a request with this URL would be refused with.
        """
        ending: JobCompletion | None = None
        if not job:
            if not await store.begin_line(batch.id, line.line):
                return None
            submitted = await self._submit(batch, caller, line)
            job, ending = submitted.status.id, submitted.unended
            if submitted.cached:
                # The job of an earlier request, which no cancellation of this batch may reach.
                return await self._succeeded(job)
            if not await store.begin_line(batch.id, line.line, job):
                await self.cancel(job)
                return None
        return await self._end(job, ending, stop)

    async def cancel(self, job: str) -> None:
        """Cancel the job of a line."""
        with contextlib.suppress(UnknownJob):
            if await self._jobs.of(job).cancel(job):
                metrics.JOBS.labels(JobState.CANCELLED).inc()

    async def _submit(self, batch: BatchRecord, caller: Principal, line: BatchLine) -> Submitted:
        request = _request(line)
        policy = WaitPolicy(wait_s=0.0, deadline_s=self._deadline_s, applied=None)
        key = f"batch {batch.id} {line.line}"
        submission = Submission(request, line.options, policy, caller, key, compared=False)
        try:
            return await self._classifier.submit(submission)
        finally:
            submission.phases.end()

    async def _end(self, job: str, ending: JobCompletion | None, stop: asyncio.Event) -> LineOutcome | None:
        bus, jobs = self._buses.of(job), self._jobs.of(job)
        while not stop.is_set():
            outcome = await bus.wait(job, LOOK_S, ending)
            if outcome is not None:
                return await self._outcome(job, outcome)
            # Raises where there is no such job any more.
            await jobs.status(job)
            await asyncio.sleep(STOPPING_S)
        return None

    async def _outcome(self, job: str, outcome: Outcome) -> LineOutcome:
        if outcome.state is JobState.SUCCEEDED:
            return await self._succeeded(job)
        error = outcome.error or InternalError(f"Job {job} ended as {outcome.state} without a cause.")
        return failed(error, job, "cancelled" if outcome.state is JobState.CANCELLED else "failed")

    async def _succeeded(self, job: str) -> LineOutcome:
        await self._jobs.of(job).keep(job, self._life_s)
        return LineOutcome(status="succeeded", job=job)


def _request(line: BatchLine) -> Request:
    """What a caller would send for this line."""
    body = VideoReference(source=Source(url=line.url), upload=None).model_dump_json(exclude_none=True).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "headers": [(b"content-type", REFERENCE_TYPE)],
        "state": {"request_id": uuid4().hex, "headers": {}, "phases": traces.Phases()},
    }
    return Request(scope, receive)
