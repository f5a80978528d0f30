"""The worker: takes clips that wait, up to the batch size, scores them and writes the scores back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any

import structlog

from service.errors import BackendUnavailable, QueueUnavailable
from service.inference.backend import Backend
from service.periodic import wait_or_timeout
from service.queue.clip_entries import ClipEntry
from service.worker.batch import batches
from service.worker.breaker import Breaker
from service.worker.config import WorkerConfig
from service.worker.drain_rate import DrainRate
from service.worker.heartbeat import BREAKER_CHECK_S, Heartbeat
from service.worker.in_flight import InFlight, SharedTime
from service.worker.intake import Intake, Taken
from service.worker.partition_source import Source
from service.worker.scoring import Scoring
from service.worker.triage import Verdict, load
from service.worker.upkeep import Upkeep
from service.worker.watchdog import Watchdog

log = structlog.get_logger()


class Worker:
    """One worker process: serves every model of its backend, one batch at a time or a few side by side."""

    def __init__(
        self,
        config: WorkerConfig,
        backend: Backend,
        sources: Sequence[Source],
        watchdog: Watchdog,
    ) -> None:
        """`sources` are all partitions of the queue."""
        self._config = config
        self._sources = sources
        self._watchdog = watchdog
        self._stopping = asyncio.Event()
        self._breaker = Breaker(config.breaker_failures, config.breaker_open_s)
        self._rate = DrainRate()
        self._heartbeat = Heartbeat(config, backend, sources, self._breaker, self._rate, watchdog)
        self._upkeep = [Upkeep(source, config.worker_lease_s, watchdog) for source in sources]
        self._in_flight = InFlight(len(sources))
        self._scoring = {
            source: Scoring(
                backend,
                source.completion,
                self._breaker,
                self._heartbeat,
                source.directory.clock,
                watchdog,
                self._stopping,
                self._in_flight,
            )
            for source in sources
        }
        self._intake = Intake(config, sources, self._heartbeat, self._rate, self._stopping)
        self._busy = SharedTime()
        self._deliveries = count(1)

    def stop(self) -> None:
        """Finish the batches in flight, leave the rest in the queue, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Survives an unreachable Redis or backend; the caller starts and closes the backend."""
        self._heartbeat.start()
        for upkeep in self._upkeep:
            upkeep.start()
        try:
            while not self._stopping.is_set():
                self._watchdog.touch("work")
                await self._survive(self._step())
            self._watchdog.rest("work")
            await self._in_flight.close()
            await self._intake.close()
        finally:
            await asyncio.gather(
                self._heartbeat.close(), *(upkeep.close() for upkeep in self._upkeep), return_exceptions=True
            )
            await asyncio.gather(*map(self._leave, self._sources), return_exceptions=True)

    async def _leave(self, source: Source) -> None:
        await source.directory.withdraw(source.stream.consumer)
        await source.stream.leave(self._heartbeat.served.max_batch_by_route)

    async def _survive(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            # A fault in one batch must not end the worker: its clips were given back, and after
            # worker_max_deliveries their jobs fail.
            log.exception("batch_failed")

    async def _step(self) -> None:
        await self._room()
        if self._stopping.is_set():
            return
        if not self._heartbeat.served.specs:
            await self._pause(0.1)
        elif self._breaker.state == "open":
            await self._intake.give_back()
            await self._pause(min(self._breaker.retry_in_s, BREAKER_CHECK_S))
        elif (taken := await self._intake.next()) is not None:
            part = next(self._deliveries)
            self._in_flight.begin(self._survive(self._process(taken, part)), part, taken.source)

    async def _room(self) -> None:
        # Where the backend was away one batch has to show that it is back.
        closed = self._breaker.state == "closed"
        self._watchdog.rest("work")
        await self._in_flight.room(self._config.worker_batches_in_flight if closed else 1)
        self._watchdog.touch("work")

    async def _process(self, taken: Taken, part: int) -> None:
        source, delivery = taken
        max_batch = self._heartbeat.served.max_batch_by_version
        unfinished = set(delivery.entries)
        failure: str | None = None
        async with source.leases.hold(delivery.entries):
            try:
                for batch in batches(delivery.entries, max_batch):
                    if self._stopping.is_set():
                        break
                    held = source.leases.kept(batch)
                    full = len(held) == max_batch.get((batch[0].model, batch[0].version))
                    await self._process_batch(taken, held, part, full=full)
                    unfinished.difference_update(batch)
                    source.leases.done(batch)
            except BackendUnavailable as error:
                log.warning("clips_given_back", clips=len(unfinished), detail=error.detail)
            except QueueUnavailable as error:
                self._intake.failed(source, error)
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                raise
            finally:
                self._watchdog.rest("work", part)
                if unfinished:
                    await source.leases.release([*unfinished])
                    with contextlib.suppress(QueueUnavailable):
                        await source.completion.nack(unfinished, failure)
                        source.reclaim_at = 0.0
                source.in_flight -= 1

    async def _process_batch(self, taken: Taken, entries: Sequence[ClipEntry], part: int, *, full: bool) -> None:
        source, delivery = taken
        self._watchdog.touch("work", part)
        with self._busy.share() as own_s:
            served, now = self._heartbeat.served, source.directory.clock.now()
            most = self._config.worker_max_deliveries
            triage = await load(source.stream, delivery, entries, most, served.by_weights, now)
            if foreign := [one.entry for one in triage if one.verdict is Verdict.FOREIGN]:
                await source.leases.release(foreign)
            clips = await source.completion.settle(triage, served)
            if clips:
                await self._scoring[source].score(clips, served, part)
                self._rate.observe(entries[0].model, len(clips), own_s(), full=full)

    async def _pause(self, seconds: float) -> None:
        await wait_or_timeout(self._stopping, seconds)
