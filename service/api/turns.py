"""Turns at the decode processes: callers come one after the other, whoever of them sends how much."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from service.contracts import JobClass


@dataclass(eq=False)
class _Waiter:
    caller: str
    bulk: bool
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """As many at a time as there are `processes`. The caller with the fewest at work is next; among equals, the one
    whose last turn began longest ago, and of its own the first that came."""

    def __init__(self, processes: int) -> None:
        self._free = processes
        # Where there are several, long films leave one to the short clips that somebody waits for.
        self._free_for_bulk = max(1, processes - 1)
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._at_work: Counter[str] = Counter()
        self._begun = 0
        self._last: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    @contextlib.asynccontextmanager
    async def turn(self, caller: str, job_class: JobClass) -> AsyncIterator[None]:
        """Wait for a turn and have it inside."""
        waiter = _Waiter(caller, job_class is JobClass.BULK)
        self._waiting.setdefault(caller, deque()).append(waiter)
        self._hand_out()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self._end(waiter)
            else:
                self._leave(waiter)
            raise
        try:
            yield
        finally:
            self._end(waiter)

    def _hand_out(self) -> None:
        while self._free and (waiter := self._next()) is not None:
            self._leave(waiter)
            self._free -= 1
            self._free_for_bulk -= waiter.bulk
            self._at_work[waiter.caller] += 1
            self._begun += 1
            self._last[waiter.caller] = self._begun
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        ready = [waiter for queue in self._waiting.values() if (waiter := self._first(queue)) is not None]
        return min(ready, key=lambda one: (self._at_work[one.caller], self._last.get(one.caller, 0)), default=None)

    def _first(self, queue: deque[_Waiter]) -> _Waiter | None:
        # One that was cancelled just now leaves when it comes to itself.
        ready = (waiter for waiter in queue if not waiter.turn.done())
        return next((waiter for waiter in ready if self._free_for_bulk or not waiter.bulk), None)

    def _leave(self, waiter: _Waiter) -> None:
        queue = self._waiting[waiter.caller]
        queue.remove(waiter)
        if not queue:
            del self._waiting[waiter.caller]

    def _end(self, waiter: _Waiter) -> None:
        self._free += 1
        self._free_for_bulk += waiter.bulk
        self._at_work[waiter.caller] -= 1
        if not self._at_work[waiter.caller]:
            del self._at_work[waiter.caller]
        self._hand_out()
        # Who is not here needs no place in the order.
        if len(self._last) > 2 * (len(self._waiting) + len(self._at_work)) + 16:
            self._last = {one: at for one, at in self._last.items() if one in self._waiting or one in self._at_work}
