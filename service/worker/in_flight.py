"""The deliveries that one worker works on side by side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any


class InFlight:
    """Tasks of one worker, each of which works on one delivery; `begin` starts one, `room` waits for a place."""

    def __init__(self) -> None:
        # In the order of their start: a set of tasks would be walked through in another order in each process.
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`, which handles its own errors."""
        task = asyncio.create_task(work, name="delivery")
        self._tasks.append(task)
        task.add_done_callback(self._remove)

    async def room(self, most: int) -> None:
        """Return once fewer than `most` are in flight."""
        while len(self._tasks) >= most:
            self._ended.clear()
            await self._ended.wait()

    async def close(self) -> None:
        """Return once none is in flight. Raises what a task raised in spite of all."""
        await asyncio.gather(*self._tasks)

    def _remove(self, task: asyncio.Task[None]) -> None:
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
