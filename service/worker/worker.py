"""The worker: takes clips that wait, up to the batch size, scores them and writes the scores back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any

import structlog

from service.contracts import JobClass
from service.errors import BackendUnavailable, QueueUnavailable
from service.inference.backend import Backend
from service.periodic import wait_or_timeout
from service.queue.clip_entries import ClipEntry, Delivery
from service.queue.clip_routes import model_of
from service.queue.clip_stream import ClipStream
from service.queue.model_directory import ModelDirectory
from service.telemetry import metrics
from service.worker.batch import batches
from service.worker.batch_delay import BatchDelay
from service.worker.breaker import Breaker
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.drain_rate import DrainRate
from service.worker.heartbeat import BREAKER_CHECK_S, Heartbeat
from service.worker.in_flight import InFlight, SharedTime
from service.worker.leases import Leases
from service.worker.scheduler import ClassScheduler
from service.worker.scoring import BACKOFF_FIRST_S, Scoring
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
        stream: ClipStream,
        directory: ModelDirectory,
        completion: Completion,
        watchdog: Watchdog,
    ) -> None:
        self._config = config
        self._stream = stream
        self._directory = directory
        self._completion = completion
        self._watchdog = watchdog
        self._stopping = asyncio.Event()
        self._leases = Leases(stream, config.worker_lease_s)
        self._breaker = Breaker(config.breaker_failures, config.breaker_open_s)
        self._scheduler = ClassScheduler(config.worker_interactive_weight, config.worker_bulk_batch_ms / 1000)
        self._batch_delay = BatchDelay(config.worker_batch_delay_ms / 1000)
        self._rate = DrainRate()
        self._heartbeat = Heartbeat(config, backend, stream, directory, self._breaker, self._rate, watchdog)
        self._upkeep = Upkeep(completion, directory, stream, self._heartbeat, config.worker_lease_s, watchdog)
        self._scoring = Scoring(
            backend, completion, self._breaker, self._heartbeat, directory.clock, watchdog, self._stopping
        )
        self._in_flight = InFlight()
        self._busy = SharedTime()
        self._deliveries = count(1)
        self._reclaim_at = 0.0

    def stop(self) -> None:
        """Finish the batches in flight, leave the rest in the queue, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Survives an unreachable Redis or backend; the caller starts and closes the backend."""
        self._heartbeat.start()
        self._upkeep.start()
        try:
            while not self._stopping.is_set():
                self._watchdog.touch("work")
                await self._survive(self._step())
            self._watchdog.rest("work")
            await self._in_flight.close()
        finally:
            await asyncio.gather(self._heartbeat.close(), self._upkeep.close(), return_exceptions=True)
            with contextlib.suppress(QueueUnavailable):
                await self._directory.withdraw(self._stream.consumer)
                await self._stream.leave(self._heartbeat.served.max_batch_by_route)

    async def _survive(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
            await self._pause(BACKOFF_FIRST_S)
        except Exception:
            # A fault in one batch must not end the worker: its clips were given back, and after
            # worker_max_deliveries their jobs fail.
            log.exception("batch_failed")

    async def _step(self) -> None:
        await self._room()
        if self._stopping.is_set():
            return
        await self._directory.set_clock()
        if not self._heartbeat.served.specs:
            await self._pause(0.1)
        elif self._breaker.state == "open":
            await self._pause(min(self._breaker.retry_in_s, BREAKER_CHECK_S))
        elif (delivery := await self._deliver()).entries:
            self._in_flight.begin(self._survive(self._process(delivery, next(self._deliveries))))

    async def _room(self) -> None:
        # Where the backend was away one batch has to show that it is back.
        closed = self._breaker.state == "closed"
        self._watchdog.rest("work")
        await self._in_flight.room(self._config.worker_batches_in_flight if closed else 1)
        self._watchdog.touch("work")

    async def _deliver(self) -> Delivery:
        lost = await self._reclaim_lost()
        return Delivery(lost) if lost else await self._take_next()

    async def _reclaim_lost(self) -> list[ClipEntry]:
        """Entries that a worker gave back or left behind: looked for periodically, and again after some were found."""
        if time.monotonic() < self._reclaim_at:
            return []
        served, lease_s, idle = self._heartbeat.served, self._config.worker_lease_s, not self._in_flight
        for route, max_batch in served.max_batch_by_route.items():
            entries = await self._stream.reclaim(route, lease_s, max_batch, served.named(route), idle=idle)
            if entries:
                if entries[0].deliveries > 1:
                    metrics.LEASES_LOST.inc(len(entries))
                log.info("clips_reclaimed", route=route, clips=len(entries), deliveries=entries[0].deliveries)
                return entries
        self._reclaim_at = time.monotonic() + self._config.reclaim_every_s
        return []

    async def _take_next(self) -> Delivery:
        if (left_s := self._batch_delay.left_s) > 0:
            await self._pause(left_s)
        order = [
            (job_class, route, self._max_batch(job_class, route))
            for job_class, route in self._scheduler.order([*self._heartbeat.served.max_batch_by_route])
        ]
        delivery = await self._stream.take(order)
        if not delivery.entries:
            delivery = Delivery(await self._wait_for_first(min(max_batch for *_, max_batch in order)))
        for entry in delivery.entries[:1]:
            self._scheduler.record(entry.job_class, entry.route)
            self._batch_delay.record(delivery.entries, self._max_batch(entry.job_class, entry.route))
        return delivery

    async def _wait_for_first(self, count: int) -> list[ClipEntry]:
        """Wait for entries of any route: `count` of them, or a full batch where their class may have more."""
        block_ms = min(self._config.worker_block_ms, int(self._config.reclaim_every_s * 1000))
        entries = await self._stream.read([*self._heartbeat.served.max_batch_by_route], count, max(1, block_ms))
        for entry in entries[:1]:
            if count <= len(entries) < (max_batch := self._max_batch(entry.job_class, entry.route)):
                more = await self._stream.take([(entry.job_class, entry.route, max_batch - len(entries))])
                entries += more.entries
        return entries

    def _max_batch(self, job_class: JobClass, route: str) -> int:
        of_route = self._heartbeat.served.max_batch_by_route.get(route, 1)
        per_s = self._rate.of(model_of(route))
        # Each batch in flight gets its share of the backend, and an interactive one waits for all that are before it.
        return self._scheduler.most(job_class, of_route, per_s and per_s / self._config.worker_batches_in_flight)

    async def _process(self, delivery: Delivery, part: int) -> None:
        max_batch = self._heartbeat.served.max_batch_by_version
        unfinished = set(delivery.entries)
        failure: str | None = None
        async with self._leases.hold(delivery.entries):
            try:
                for batch in batches(delivery.entries, max_batch):
                    if self._stopping.is_set():
                        break
                    held = self._leases.kept(batch)
                    full = len(held) == max_batch.get((batch[0].model, batch[0].version))
                    await self._process_batch(delivery, held, part, full=full)
                    unfinished.difference_update(batch)
                    self._leases.done(batch)
            except BackendUnavailable as error:
                log.warning("clips_given_back", clips=len(unfinished), detail=error.detail)
            except QueueUnavailable:
                raise
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                raise
            finally:
                self._watchdog.rest("work", part)
                if unfinished:
                    with contextlib.suppress(QueueUnavailable):
                        await self._completion.nack(unfinished, failure)
                        self._reclaim_at = 0.0

    async def _process_batch(self, delivery: Delivery, entries: Sequence[ClipEntry], part: int, *, full: bool) -> None:
        self._watchdog.touch("work", part)
        with self._busy.share() as own_s:
            served, now = self._heartbeat.served.identities, self._directory.clock.now()
            triage = await load(self._stream, delivery, entries, self._config.worker_max_deliveries, served, now)
            # Before they are given back: the renewal of a lease would take them from the queue again.
            self._leases.done([one.entry for one in triage if one.verdict is Verdict.FOREIGN])
            clips = await self._completion.settle(triage)
            if clips:
                await self._scoring.score(clips, part)
                self._rate.observe(entries[0].model, len(clips), own_s(), full=full)

    async def _pause(self, seconds: float) -> None:
        await wait_or_timeout(self._stopping, seconds)
