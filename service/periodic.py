"""Waiting for an event or for some time, and work that is repeated beside other work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


async def wait_or_timeout(event: asyncio.Event, seconds: float) -> bool:
    """Return True once `event` is set, or False after `seconds`.

    Loops that use Redis end by an event, never by a cancellation: in Python 3.11 one that meets the end of a Redis
    command is lost.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Periodic:
    """Calls `work` at once and then every `interval_s` until it is closed. `work` handles its own errors.

    `interval_s` may be a function, which is asked after each call.
    """

    def __init__(self, name: str, interval_s: float | Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._work = work
        self._closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call once, in the event loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Call `work` now instead of after the rest of the interval. May be called in a signal handler."""
        self._wake.set()

    async def close(self) -> None:
        """End after the present call of `work`. Raises what `work` raised, if that has ended the loop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing:
            await self._work()
            await wait_or_timeout(self._wake, self._interval_s() if callable(self._interval_s) else self._interval_s)
            self._wake.clear()
