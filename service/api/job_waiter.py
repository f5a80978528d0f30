"""Waiting for an accepted job until it ends, its caller leaves or this process stops."""

from __future__ import annotations

import contextlib

import structlog
from fastapi import Request

from service.api.disconnect import cancel_on_disconnect
from service.api.request_headers import WaitPolicy
from service.api.submission import Submitted
from service.contracts import JobState
from service.errors import DeadlineExceeded, MalformedRequest, QueueUnavailable, UnknownJob
from service.queue.clock import Clock
from service.queue.codec import Outcome
from service.queue.durability import Durability
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus
from service.telemetry import metrics

log = structlog.get_logger()


class JobWaiter:
    """Waits for jobs, and knows whether this process is shutting down. Owned by the app, one per process."""

    def __init__(
        self,
        stores: PerPartition[JobStore],
        buses: PerPartition[ResultBus],
        durabilities: PerPartition[Durability],
        drain_wait_s: float,
        clocks: PerPartition[Clock],
    ) -> None:
        """`clocks` decide which jobs are past their deadline."""
        self._stores = stores
        self._buses = buses
        self._durabilities = durabilities
        self._drain_wait_s = drain_wait_s
        self._clocks = clocks
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the process is shutting down."""
        return self._draining

    def drain(self) -> None:
        """Refuse new uploads, and let waiting callers go with a 202 once `drain_wait_s` has passed."""
        self._draining = True
        for bus in self._buses:
            bus.release_waiters(self._drain_wait_s)

    async def wait(self, request: Request, job: Submitted, wait_policy: WaitPolicy) -> Outcome | None:
        """The job's outcome; None when the caller's wait is over first. Raises DeadlineExceeded.

        A job without an Idempotency-Key is cancelled when its caller goes away.
        """
        status = job.status
        clock = self._clocks.of(status.id)
        deadline_s = max(0.0, status.deadline_at - await clock.time())
        waited = self._buses.of(status.id).wait(status.id, min(wait_policy.wait_s, deadline_s), job.unended)
        try:
            outcome = await (waited if job.keyed else cancel_on_disconnect(request, waited))
        except MalformedRequest:
            await self._cancel(status.id, "disconnected")
            raise
        if outcome is None and clock.now() >= status.deadline_at:
            detail = f"The job's deadline of {wait_policy.deadline_s:g} s passed before it had a result."
            raise DeadlineExceeded(detail, limit=wait_policy.deadline_s)
        return outcome

    async def keep(self, job: Submitted) -> None:
        """Return once the job may be promised to a caller who leaves without its result.

        Raises QueueUnavailable where Redis does not get it onto disk. A job without an Idempotency-Key is cancelled
        then: its id is known to no client.
        """
        try:
            with metrics.stage("disk"):
                await self._durabilities.of(job.status.id).wait_persisted(job.status.id)
        except QueueUnavailable:
            if not job.keyed:
                await self._cancel(job.status.id, "not on disk")
            raise

    async def _cancel(self, job_id: str, cause: str) -> None:
        with contextlib.suppress(QueueUnavailable, UnknownJob):
            if await self._stores.of(job_id).cancel(job_id):
                metrics.JOBS.labels(JobState.CANCELLED).inc()
                log.info("job_cancelled", job=job_id, cause=cause)
