"""Who decodes next, and how long an upload can expect to wait for a decode process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from service.contracts import JobClass
from service.errors import VidtrError

# Weight of the newest decode in the moving average of decode times.
WEIGHT = 0.2
# Callers that are remembered beyond those present, so that the order is not cleaned up at every decode.
REMEMBERED_CALLERS = 16


@dataclass(eq=False)
class _Waiter:
    caller: str
    bulk: bool
    slot: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DecodeScheduler:
    """One slot per decode process, shared fairly, and the expected wait for the next one.

    The caller with the fewest running decodes is next; among equals, the one whose last decode began longest ago. One
    caller's uploads keep their order. Bulk jobs leave one slot free for interactive ones where there are several.
    """

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._free = processes
        self._free_for_bulk = max(1, processes - 1)
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._running: Counter[str] = Counter()
        self._begun = 0
        self._last_begun: dict[str, int] = {}
        self._decode_s: float | None = None

    @property
    def waiting(self) -> int:
        """How many uploads wait for a slot."""
        return sum(map(len, self._waiting.values()))

    @contextlib.asynccontextmanager
    async def slot(self, job_class: JobClass, caller: str = "") -> AsyncIterator[None]:
        """Wait for a slot and hold it inside. The time it is held counts as one decode, unless it is cancelled."""
        waiter = _Waiter(caller, job_class is JobClass.BULK)
        await self._wait(waiter)
        started = self._clock()
        try:
            yield
        except VidtrError:
            self.observe(self._clock() - started)
            raise
        else:
            self.observe(self._clock() - started)
        finally:
            self._release(waiter)

    def observe(self, decode_s: float) -> None:
        """Add the duration of one decode in seconds, waiting not counted, to the moving average."""
        self._decode_s = decode_s if self._decode_s is None else (1 - WEIGHT) * self._decode_s + WEIGHT * decode_s

    def estimated_wait_s(self, ahead: int) -> float:
        """Seconds until an upload behind `ahead` others is decoded; 0 before the first decode."""
        return (ahead + 1) * (self._decode_s or 0.0) / self._processes

    async def _wait(self, waiter: _Waiter) -> None:
        self._waiting.setdefault(waiter.caller, deque()).append(waiter)
        self._assign()
        try:
            await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled():
                self._release(waiter)
            else:
                self._dequeue(waiter)
            raise

    def _assign(self) -> None:
        while self._free and (waiter := self._next()) is not None:
            self._dequeue(waiter)
            self._free -= 1
            self._free_for_bulk -= waiter.bulk
            self._running[waiter.caller] += 1
            self._begun += 1
            self._last_begun[waiter.caller] = self._begun
            waiter.slot.set_result(None)

    def _next(self) -> _Waiter | None:
        ready = [waiter for queue in self._waiting.values() if (waiter := self._first(queue)) is not None]
        return min(
            ready, key=lambda one: (self._running[one.caller], self._last_begun.get(one.caller, 0)), default=None
        )

    def _first(self, queue: deque[_Waiter]) -> _Waiter | None:
        # A waiter that was cancelled just now leaves the queue when its task runs next.
        ready = (waiter for waiter in queue if not waiter.slot.done())
        return next((waiter for waiter in ready if self._free_for_bulk or not waiter.bulk), None)

    def _dequeue(self, waiter: _Waiter) -> None:
        queue = self._waiting[waiter.caller]
        queue.remove(waiter)
        if not queue:
            del self._waiting[waiter.caller]

    def _release(self, waiter: _Waiter) -> None:
        self._free += 1
        self._free_for_bulk += waiter.bulk
        self._running[waiter.caller] -= 1
        if not self._running[waiter.caller]:
            del self._running[waiter.caller]
        self._assign()
        # Absent callers need no place in the order.
        if len(self._last_begun) > 2 * (len(self._waiting) + len(self._running)) + REMEMBERED_CALLERS:
            present = self._waiting.keys() | self._running.keys()
            self._last_begun = {caller: at for caller, at in self._last_begun.items() if caller in present}
