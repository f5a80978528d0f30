"""The deliveries that one worker works on side by side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Hashable, Iterator
from typing import Any

# After so long without an answer of a partition the worker goes on with the others.
PATIENCE_S = 0.5


class InFlight:
    """Tasks of one worker, each of which works on one delivery; `begin` starts one, `room` waits for a place.

    One that waits for a partition that hangs leaves its place to others, one for each partition.
    """

    def __init__(self, partitions: int = 1) -> None:
        self._patience_s = PATIENCE_S if partitions > 1 else None
        self._waiting: dict[int, asyncio.TimerHandle] = {}
        self._stuck: dict[int, Hashable] = {}
        self._sources: dict[int, Hashable] = {}
        # In the order of their start: a set of tasks would be walked through in another order in each process.
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None], part: int = 0, source: Hashable = None) -> None:
        """Start `work`, which handles its own errors; `part` is its number, and `source` its partition."""
        self._sources[part] = source
        self._wait(part)
        task = asyncio.create_task(work, name="delivery")
        self._tasks.append(task)
        task.add_done_callback(lambda ended: self._remove(ended, part))

    @contextlib.contextmanager
    def computing(self, part: int) -> Iterator[None]:
        """The work is at the engine, and not at Redis."""
        self._go_on(part)
        try:
            yield
        finally:
            self._wait(part)

    def _wait(self, part: int) -> None:
        if self._patience_s is not None and part in self._sources:
            self._waiting[part] = asyncio.get_running_loop().call_later(self._patience_s, self._leave, part)

    def _go_on(self, part: int) -> None:
        self._stuck.pop(part, None)
        if (timer := self._waiting.pop(part, None)) is not None:
            timer.cancel()

    def _leave(self, part: int) -> None:
        if self._sources[part] not in self._stuck.values():
            self._stuck[part] = self._sources[part]
            self._ended.set()

    async def room(self, most: int) -> None:
        """Return once fewer than `most` are in flight."""
        while len(self._tasks) - len(self._stuck) >= most:
            self._ended.clear()
            await self._ended.wait()

    async def close(self) -> None:
        """Return once none is in flight. Raises what a task raised in spite of all."""
        await asyncio.gather(*self._tasks)

    def _remove(self, task: asyncio.Task[None], part: int) -> None:
        self._go_on(part)
        self._sources.pop(part, None)
        self._tasks.remove(task)
        self._ended.set()


class SharedTime:
    """Seconds of batches in flight, of which each batch counts its share: a half while two are in flight.

    The shares of all batches add up to the time in which any was in flight, so that clips divided by them are clips a
    second of the worker, and not of one batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sharing = 0
        self._passed = 0.0
        self._at = 0.0

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[], float]]:
        """One batch is in flight within; the function says the seconds that were its own so far."""
        self._advance()
        self._sharing += 1
        began = self._passed

        def own_s() -> float:
            self._advance()
            return self._passed - began

        try:
            yield own_s
        finally:
            self._advance()
            self._sharing -= 1

    def _advance(self) -> None:
        now = self._clock()
        if self._sharing:
            self._passed += (now - self._at) / self._sharing
        self._at = now
