"""One batch, while this process drives it: so many of its lines at a time, as long as it has the lease."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

import structlog

from service.api.auth import Authenticator
from service.api.batches.delivery import Delivery
from service.api.batches.line import Lines, failed
from service.contracts import BatchLine, BatchRecord, LineOutcome
from service.errors import (
    RETRY_AFTER_S,
    DeadlineExceeded,
    InternalError,
    JobDeleted,
    QueueUnavailable,
    SourceUnavailable,
    TemporaryError,
    UnknownBatch,
    VidtrError,
)
from service.periodic import Periodic, wait_or_timeout
from service.queue.batch_facts import BatchFacts
from service.queue.batch_store import BatchStore
from service.queue.clock import Clock
from service.queue.turns import Turn
from service.telemetry import metrics

log = structlog.get_logger()

# Every so often the lease is kept and the caller's cancellation is looked for; it ends after four such times.
BEAT_S = 2.5
LONGEST_WAIT_S = 60.0


class BatchDrive:
    """Drives one batch to its end."""

    def __init__(
        self,
        facts: BatchFacts,
        store: BatchStore,
        lease: Turn,
        lines: Lines,
        delivery: Delivery,
        auth: Authenticator,
        clock: Clock,
        draining: Callable[[], bool],
        concurrency: int,
        deadline_s: float,
        beat_s: float,
    ) -> None:
        """The process has the `lease`. `draining` says whether it is shutting down."""
        self._batch = facts.record
        self._ends_at = facts.created_at + deadline_s
        self._deadline_s = deadline_s
        self._store = store
        self._lease = lease
        self._lines = lines
        self._delivery = delivery
        self._auth = auth
        self._clock = clock
        self._draining = draining
        self._concurrency = concurrency
        self._stop = asyncio.Event()
        self._lost = asyncio.Event()
        self._rest: LineOutcome | None = None
        self._pending: deque[BatchLine] = deque()
        self._begun: dict[int, str] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._beat = Periodic(f"batch-{self._batch.id}", beat_s, self._look)

    async def run(self) -> None:
        """Return when the batch has ended, or another process may drive it."""
        try:
            await self._store.start(self._batch.id, await self._clock.time())
            lines, self._begun = await self._store.left(self._batch.id)
            # What had a job already is nearest to its end.
            self._pending.extend(sorted(lines, key=lambda line: line.line not in self._begun))
            log.info("batch_driven", batch=self._batch.id, lines=len(lines), begun=len(self._begun))
            count = min(self._concurrency, len(lines))
            self._workers = {asyncio.create_task(self._work(), name=f"batch-{self._batch.id}") for _ in range(count)}
            self._beat.start()
            try:
                for ended in await asyncio.gather(*self._workers, return_exceptions=True):
                    if isinstance(ended, Exception):
                        log.error("batch_worker_failed", batch=self._batch.id, exc_info=ended)
                if self._rest is not None:
                    await end_rest(self._store, self._lines, self._batch.id, self._rest)
                await self._deliver()
            finally:
                await self._beat.close()
            await self._lease.end()
        except UnknownBatch:
            # It has expired.
            return
        except QueueUnavailable as error:
            # The lease lapses, and then a process drives what is left.
            log.warning("queue_unavailable", detail=error.detail)

    def halt(self) -> None:
        """Begin no further line, leave those that are begun as they are, and write no results."""
        self._lost.set()
        self._end_lines()

    async def _deliver(self) -> None:
        facts = await self._store.facts(self._batch.id)
        if facts.ended_at is not None and facts.closes and not self._lost.is_set():
            await self._delivery.deliver(self._store, facts, self._lost)

    def _end_lines(self) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.cancel()

    async def _look(self) -> None:
        try:
            if self._draining() or not await self._lease.mine():
                self.halt()
                return
            facts = await self._store.facts(self._batch.id)
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
            return
        except UnknownBatch:
            self.halt()
            return
        if facts.cancelled_at is not None:
            self._rest = cancelled()
            self._end_lines()
        elif self._clock.now() >= self._ends_at:
            limit = self._deadline_s
            late = DeadlineExceeded(f"The batch took longer than {limit:g} s (`batch_deadline_s`).", limit=limit)
            self._rest = failed(late)
            self._end_lines()

    async def _work(self) -> None:
        while self._pending and not self._stop.is_set():
            await self._finish(self._pending.popleft())

    async def _finish(self, line: BatchLine) -> None:
        """Try until the line has an outcome: what refuses it for now lets it wait."""
        job = self._begun.get(line.line, "")
        while not self._stop.is_set():
            try:
                outcome = await self._outcome(line, job)
                if outcome is not None:
                    await _end(self._store, self._batch, line, outcome)
                return
            except TemporaryError as error:
                asked_s = error.retry_after_s or RETRY_AFTER_S
                log.info("batch_waits", batch=self._batch.id, line=line.line, code=error.code, seconds=asked_s)
                wait_s = min(asked_s, LONGEST_WAIT_S) * random.uniform(1.0, 1.5)  # noqa: S311 - no secret
                await wait_or_timeout(self._stop, wait_s)

    async def _outcome(self, line: BatchLine, job: str) -> LineOutcome | None:
        batch = self._batch
        try:
            caller = self._auth.again(batch.key_name, batch.owner, batch.identity)
            return await self._lines.run(self._store, batch, caller, line, job, self._stop)
        except SourceUnavailable as error:
            # It was tried several times, and it is the line's own trouble.
            return failed(error)
        except TemporaryError:
            raise
        except VidtrError as error:
            return failed(error)
        except Exception:
            log.exception("batch_line_failed", batch=batch.id, line=line.line)
            return failed(InternalError("The service failed. Its log has the cause under the id of the batch."))


def cancelled() -> LineOutcome:
    """The outcome of a line whose batch was cancelled before it had another."""
    return failed(JobDeleted("The batch was cancelled before this line ended."), status="cancelled")


async def end_rest(store: BatchStore, lines: Lines, batch_id: str, outcome: LineOutcome) -> None:
    """Give all lines that have not ended this outcome, and cancel their jobs."""
    facts = await store.facts(batch_id)
    left, _ = await store.left(batch_id)
    for line in left:
        if job := await _end(store, facts.record, line, outcome):
            await lines.cancel(job)


async def _end(store: BatchStore, batch: BatchRecord, line: BatchLine, outcome: LineOutcome) -> str | None:
    job = await store.end_line(batch, line.line, outcome)
    if job is not None:
        metrics.BATCH_LINES.labels(outcome.status).inc()
    return job
