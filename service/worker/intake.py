"""The intake of a worker: the next entries to score, of all partitions of the queue in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import structlog

from service.contracts import JobClass
from service.errors import QueueUnavailable
from service.periodic import wait_or_timeout
from service.queue.clip_entries import Delivery
from service.queue.clip_routes import model_of
from service.telemetry import metrics
from service.worker.batch_delay import BatchDelay
from service.worker.config import WorkerConfig
from service.worker.drain_rate import DrainRate
from service.worker.heartbeat import Heartbeat
from service.worker.partition_source import Source
from service.worker.scheduler import ClassScheduler

log = structlog.get_logger()

Reply = TypeVar("Reply")
Order = list[tuple[JobClass, str, int]]


class Taken(NamedTuple):
    """Entries to work on, and where they are from."""

    source: Source
    delivery: Delivery


class Intake:
    """Finds work: what pending calls have brought, what others have lost, what waits; or it waits for some.

    A partition that cannot be reached is left out until a read succeeds again: the others go on.
    """

    def __init__(
        self,
        config: WorkerConfig,
        sources: Sequence[Source],
        heartbeat: Heartbeat,
        rate: DrainRate,
        stopping: asyncio.Event,
    ) -> None:
        self._config = config
        self._sources = sources
        self._heartbeat = heartbeat
        self._rate = rate
        self._stopping = stopping
        self._scheduler = ClassScheduler(config.worker_interactive_weight, config.worker_bulk_batch_ms / 1000)
        self._batch_delay = BatchDelay(config.worker_batch_delay_ms / 1000)
        self._first = 0
        self._alone = len(sources) == 1

    async def next(self) -> Taken | None:
        """The next entries, or None where none came for a while."""
        taken = await self._arrived() or await self._lost() or await self._ready() or await self._wait()
        if taken is not None:
            taken.source.in_flight += 1
            self._first = (self._sources.index(taken.source) + 1) % len(self._sources)
        return taken

    async def give_back(self) -> None:
        """Give back what pending calls have brought."""
        for source in self._sources:
            if source.ended and (delivery := await self._asked(source, source.collect())) is not None:
                if delivery.entries:
                    await self._asked(source, source.completion.nack(delivery.entries))

    async def close(self) -> None:
        """Give back what pending calls bring, once they have ended; one that hangs is left alone."""
        calls = [source.pending for source in self._sources if source.pending is not None]
        if calls:
            await asyncio.wait(calls, timeout=2 * self._block_ms / 1000 + 1)
        await self.give_back()

    def failed(self, source: Source, error: QueueUnavailable) -> None:
        """A partition could not be reached."""
        number = {"partition": self._sources.index(source)} if len(self._sources) > 1 else {}
        log.warning("queue_unavailable", detail=error.detail, **number)
        source.away = True

    async def _asked(self, source: Source, reply: Awaitable[Reply]) -> Reply | None:
        try:
            return await reply
        except QueueUnavailable as error:
            self.failed(source, error)
            return None

    def _turn(self) -> list[Source]:
        return [*self._sources[self._first :], *self._sources[: self._first]]

    async def _arrived(self) -> Taken | None:
        """What a call has brought that has ended meanwhile: interactive clips first."""
        if not any(source.ended for source in self._sources):
            return None
        ended = [source for source in self._turn() if source.ended]
        ended.sort(key=lambda source: all(entry.job_class is JobClass.BULK for entry in source.arrived))
        taken: Taken | None = None
        for source in ended:
            if taken is not None and source.arrived:
                # Its turn comes after this batch, which may take longer than a lease.
                source.keep()
            elif (delivery := await self._asked(source, source.collect())) is not None and delivery.entries:
                taken = Taken(source, await self._filled(source, delivery))
        return self._begun(taken)

    async def _filled(self, source: Source, delivery: Delivery) -> Delivery:
        """Fill the batch up where a read has brought as many clips as it was to bring."""
        entries, first = delivery.entries, delivery.entries[0]
        most = self._max_batch(first.job_class, first.route)
        if len(entries) >= most or len(entries) < self._least():
            return delivery
        more = await self._asked(source, source.take([(first.job_class, first.route, most - len(entries))]))
        return Delivery(entries + more.entries) if more is not None else delivery

    async def _lost(self) -> Taken | None:
        """Entries that a worker gave back or left behind: looked for periodically, and again after some were found."""
        for source in self._turn():
            if source.ready and time.monotonic() >= source.reclaim_at:
                delivery = await self._asked(source, source.ask(self._reclaim(source), alone=self._alone))
                if delivery is not None and delivery.entries:
                    return Taken(source, delivery)
        return None

    async def _reclaim(self, source: Source) -> Delivery:
        served, lease_s, idle = self._heartbeat.served, self._config.worker_lease_s, not source.in_flight
        await source.directory.clock.time()
        for route, max_batch in served.max_batch_by_route.items():
            entries = await source.stream.reclaim(route, lease_s, max_batch, served.named(route), idle=idle)
            if entries:
                if entries[0].deliveries > 1:
                    metrics.LEASES_LOST.inc(len(entries))
                log.info("clips_reclaimed", route=route, clips=len(entries), deliveries=entries[0].deliveries)
                return Delivery(entries)
        source.reclaim_at = time.monotonic() + self._config.reclaim_every_s
        return Delivery([])

    async def _ready(self) -> Taken | None:
        """What waits: of each class in all partitions before the next class in any."""
        if (left_s := self._batch_delay.left_s) > 0:
            await self._pause(left_s)
        for part in self._parts(self._order()):
            for source in self._turn():
                if source.ready:
                    delivery = await self._asked(source, source.ask(source.take(part), alone=self._alone))
                    if delivery is not None and delivery.entries:
                        return self._begun(Taken(source, delivery))
        return None

    def _parts(self, order: Order) -> Iterable[Order]:
        if self._alone:
            # One partition finds the first of the whole order by itself.
            return [order]
        return [list(of_class) for _, of_class in groupby(order, key=lambda wanted: wanted[0])]

    async def _wait(self) -> Taken | None:
        routes, least, block_ms = [*self._heartbeat.served.max_batch_by_route], self._least(), self._block_ms
        calls = [source.read(routes, least, block_ms, self._pause) for source in self._sources]
        for source in self._sources:
            source.awaited = True
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for source in self._sources:
            source.awaited = False
        return await self._arrived()

    @property
    def _block_ms(self) -> int:
        return max(1, min(self._config.worker_block_ms, int(self._config.reclaim_every_s * 1000)))

    def _begun(self, taken: Taken | None) -> Taken | None:
        if taken is not None:
            first = taken.delivery.entries[0]
            self._scheduler.record(first.job_class, first.route)
            self._batch_delay.record(taken.delivery.entries, self._max_batch(first.job_class, first.route))
        return taken

    def _order(self) -> Order:
        return [
            (job_class, route, self._max_batch(job_class, route))
            for job_class, route in self._scheduler.order([*self._heartbeat.served.max_batch_by_route])
        ]

    def _least(self) -> int:
        """Clips that any batch may have: what a read brings of a route whose turn it may not be."""
        return min(max_batch for *_, max_batch in self._order())

    def _max_batch(self, job_class: JobClass, route: str) -> int:
        of_route = self._heartbeat.served.max_batch_by_route.get(route, 1)
        per_s = self._rate.of(model_of(route))
        # Each batch in flight gets its share of the backend, and an interactive one waits for all that are before it.
        return self._scheduler.most(job_class, of_route, per_s and per_s / self._config.worker_batches_in_flight)

    async def _pause(self, seconds: float) -> None:
        await wait_or_timeout(self._stopping, seconds)
