"""Scores batches whatever the backend does: retries while it is unavailable, and isolates a clip that makes it fail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog

from service.errors import BackendFailed, BackendUnavailable
from service.inference.backend import Backend
from service.periodic import wait_or_timeout
from service.queue.clock import Clock
from service.telemetry import metrics, traces
from service.worker.batch import ScoredBatch, observe, score
from service.worker.breaker import Breaker
from service.worker.completion import Completion
from service.worker.heartbeat import Heartbeat
from service.worker.in_flight import InFlight
from service.worker.served_models import ServedModels
from service.worker.triage import LoadedClip, expiry
from service.worker.watchdog import Watchdog

log = structlog.get_logger()

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 5.0


class Scoring:
    """Takes clips to the backend, and their scores to `Completion`."""

    def __init__(
        self,
        backend: Backend,
        completion: Completion,
        breaker: Breaker,
        heartbeat: Heartbeat,
        clock: Clock,
        watchdog: Watchdog,
        stopping: asyncio.Event,
        in_flight: InFlight,
    ) -> None:
        """`stopping` ends the wait for an unavailable backend."""
        self._backend = backend
        self._completion = completion
        self._breaker = breaker
        self._heartbeat = heartbeat
        self._clock = clock
        self._watchdog = watchdog
        self._stopping = stopping
        self._in_flight = in_flight

    async def score(self, clips: Sequence[LoadedClip], served: ServedModels, part: int = 0) -> None:
        """Score clips of one model, version and shape, and write the scores back.

        `served` are the models of their triage, `part` is their number for the watchdog.

        Raises BackendUnavailable once the breaker opens, or when the worker is stopping.
        """
        pending = deque([clips] if clips else [])
        backoff_s = BACKOFF_FIRST_S
        while pending:
            batch = pending.popleft()
            self._watchdog.touch("work", part)
            began = self._breaker.now
            try:
                with self._in_flight.computing(part):
                    scored = await score(self._backend, batch, self._clock)
            except BackendUnavailable as error:
                self._unavailable(error, began)
                await wait_or_timeout(self._stopping, backoff_s)
                if self._breaker.state == "open":  # Another batch in flight has met the same outage.
                    raise
                backoff_s = min(2 * backoff_s, BACKOFF_LAST_S)
                if in_time := await self._fail_expired(batch):
                    pending.appendleft(in_time)
            except BackendFailed as error:
                metrics.BACKEND_ERRORS.labels("failed").inc()
                self._breaker.succeeded()
                if len(batch) == 1:
                    await self._completion.failed(batch[0].entry, error)
                else:
                    # One clip may have failed the batch for the others: alone, only that one fails.
                    pending.extend([clip] for clip in batch)
            else:
                self._breaker.succeeded()
                backoff_s = BACKOFF_FIRST_S
                await self._complete(batch, scored, served)

    def _unavailable(self, error: BackendUnavailable, began: float) -> None:
        """Raises `error` where there is no point in waiting for the backend."""
        metrics.BACKEND_ERRORS.labels("unavailable").inc()
        log.warning("backend_unavailable", detail=error.detail)
        self._breaker.failed(began)
        is_open = self._breaker.state == "open"
        if is_open:
            log.warning("breaker_open", retry_in_s=round(self._breaker.retry_in_s, 3))
            self._heartbeat.wake()
        if is_open or self._stopping.is_set():
            raise error

    async def _fail_expired(self, clips: Sequence[LoadedClip]) -> list[LoadedClip]:
        """End the jobs of clips that are too late by now, and return the other clips."""
        now = self._clock.now()
        for clip in clips:
            if error := expiry(clip.entry, now):
                await self._completion.failed(clip.entry, error)
        return [clip for clip in clips if clip.entry.deadline_at > now]

    async def _complete(self, clips: Sequence[LoadedClip], scored: ScoredBatch, served: ServedModels) -> None:
        started = self._clock.now()
        try:
            with metrics.stage("completion"):
                records = {clip.entry.job_id: clip.record for clip in clips if clip.record is not None}
                await self._completion.scored(scored.scores, records, served)
        finally:
            observe(scored)
        for trace in {clip.entry.trace for clip in clips}:
            traces.record("completion", started, self._clock.now(), parent=trace)
