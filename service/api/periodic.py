"""Work that is done again and again beside the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Periodic:
    """Calls `work` at once and then every `interval_s`, until it is closed. `work` deals with its own errors."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._work = work
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; call once, in the event loop."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """End after the call in hand."""
        # Not cancelled: in Python 3.11 a cancellation that meets the end of a Redis command is lost with it.
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._work()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._closing.wait()
