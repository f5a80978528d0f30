"""One partition of the queue as a worker reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from service.contracts import JobClass
from service.errors import QueueUnavailable
from service.queue.clip_entries import ClipEntry, Delivery
from service.queue.clip_stream import ClipStream
from service.queue.model_directory import ModelDirectory
from service.worker.completion import Completion
from service.worker.leases import Leases

RETRY_S = 0.2
# After so long without an answer the worker asks the other partitions.
PATIENCE_S = 0.5

Pause = Callable[[float], Awaitable[None]]


class Source:
    """Asks for entries. A call that does not answer at once stays pending until it is collected.

    It is never cancelled: what Redis has delivered to it would wait for the end of its lease.

    Attributes:
        away: whether the partition could not be reached when it was last asked; the next read tries again.
        awaited: whether what a call brings is collected at once.
        in_flight: deliveries from here that are worked on.
        reclaim_at: when to look for lost work again, by the monotonic clock.
    """

    def __init__(self, stream: ClipStream, directory: ModelDirectory, completion: Completion, lease_s: float) -> None:
        self.stream = stream
        self.directory = directory
        self.completion = completion
        self.leases = Leases(stream, lease_s)
        self.away = False
        self.awaited = False
        self.in_flight = 0
        self.reclaim_at = 0.0
        self.pending: asyncio.Task[Delivery] | None = None
        self._kept: asyncio.Task[list[ClipEntry]] | None = None
        self._collected = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether to ask it now: it can be reached, and no call is pending."""
        return not self.away and self.pending is None

    @property
    def ended(self) -> bool:
        """Whether a call has ended and is to be collected."""
        return self.pending is not None and self.pending.done()

    @property
    def arrived(self) -> list[ClipEntry]:
        """What the call that has ended brought."""
        call = self.pending
        if call is None or not call.done() or call.cancelled() or call.exception() is not None:
            return []
        return call.result().entries

    async def ask(self, work: Coroutine[Any, Any, Delivery], *, alone: bool) -> Delivery:
        """The reply to a call, or nothing where it stays pending. One that is `alone` is waited for in any case."""
        if alone:
            return await work
        call = self._begin(work)
        self.awaited = True
        await asyncio.wait({call}, timeout=PATIENCE_S)
        self.awaited = False
        return await self.collect() if call.done() else Delivery([])

    async def take(self, order: Sequence[tuple[JobClass, str, int]]) -> Delivery:
        """`ClipStream.take`."""
        await self.directory.clock.time()
        return await self._passed_on(await self.stream.take(order))

    def read(self, routes: Sequence[str], count: int, block_ms: int, pause: Pause) -> asyncio.Task[Delivery]:
        """The pending call, or else a new one: `ClipStream.wait`, after a `pause` where it is a retry."""
        return self.pending or self._begin(self._read(routes, count, block_ms, pause))

    async def _read(self, routes: Sequence[str], count: int, block_ms: int, pause: Pause) -> Delivery:
        if self.away:
            await pause(RETRY_S)
        await self.directory.clock.time()
        entries = await self.stream.wait(routes, count, block_ms)
        self.away = False
        return await self._passed_on(Delivery(entries))

    async def _passed_on(self, delivery: Delivery) -> Delivery:
        """What was found, once another worker waits in the place of this one."""
        if delivery.entries:
            # Where it fails the others look for work by themselves, and what was found is to be worked on.
            with contextlib.suppress(QueueUnavailable):
                await self.stream.lead.pass_on()
        return delivery

    def _begin(self, work: Coroutine[Any, Any, Delivery]) -> asyncio.Task[Delivery]:
        self.pending = asyncio.create_task(work, name="read")
        self.pending.add_done_callback(lambda _: None if self.awaited else self.keep())
        return self.pending

    def keep(self) -> None:
        """Renew the leases of what the call has brought, until it is collected."""
        if self._kept is None and (entries := self.arrived):
            self._collected.clear()
            self._kept = asyncio.create_task(self._keep(entries), name="kept")

    async def _keep(self, entries: Sequence[ClipEntry]) -> list[ClipEntry]:
        async with self.leases.hold(entries):
            await self._collected.wait()
            return self.leases.kept(entries)

    async def collect(self) -> Delivery:
        """What the call that has ended brought, as far as this worker still holds it. Raises what the call raised."""
        call, kept = self.pending, self._kept
        self.pending = self._kept = None
        delivery = Delivery([]) if call is None else call.result()
        if kept is None:
            return delivery
        self._collected.set()
        return Delivery(await kept, delivery.prefetched)
