"""Ending jobs whose deadline has passed: the api does it as the workers do, because there may be none."""

from __future__ import annotations

import contextlib

import structlog

from service.contracts import JobState
from service.errors import DeadlineExceeded, QueueUnavailable
from service.periodic import Periodic
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.telemetry import metrics

log = structlog.get_logger()

SWEEP_S = 1.0


class Overdue:
    """Sweeps every second where it is this process' turn."""

    def __init__(self, store: JobStore, directory: ModelDirectory) -> None:
        self._store = store
        self._directory = directory
        self._sweeping = Periodic("overdue", SWEEP_S, self.sweep)

    def start(self) -> None:
        """Begin to sweep; call once, in the event loop."""
        self._sweeping.start()

    async def close(self) -> None:
        """End after the sweep in hand."""
        await self._sweeping.close()
        with contextlib.suppress(QueueUnavailable):
            await self._directory.turns.end()

    async def sweep(self) -> None:
        """Expire the jobs whose deadline has passed, and delete the streams that no worker reads any more."""
        try:
            await self._directory.clock.time()
            turns = self._directory.turns
            for job_id in await self._store.expire_overdue() if await turns.deadlines.due() else ():
                metrics.JOBS.labels(JobState.EXPIRED).inc()
                log.warning("job_failed", job=job_id, state=JobState.EXPIRED, code=DeadlineExceeded.code)
            if await turns.streams.due():
                await self._directory.clear()
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
