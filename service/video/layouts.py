"""Which fork server makes the sandbox workers: all those of one have their memory at the same addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from service.errors import Draining
from service.video.forkserver_client import ServerGone
from service.video.sandbox_pool import SandboxPool
from service.video.sandbox_worker import SandboxWorkerGone


class Layouts:
    """The pool of the current fork server; another one starts when it has ended, or when its workers have crashed.

    An attacker of a decoder has to guess addresses, and a wrong guess is a crash: after `crashes` of them (0 for any
    number) the addresses change. The next fork server starts beside the old one, whose decodes go on to their end.
    """

    def __init__(self, start: Callable[[], SandboxPool], crashes: int) -> None:
        self._start = start
        self._most = crashes
        self._crashes = 0
        self._pool: SandboxPool | None = None
        self._running: set[SandboxPool] = set()
        self._closed = False
        self._starting = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()

    async def pool(self, *, suspect: bool = False) -> SandboxPool:
        """Those of a fork server that is there; a `suspect` waits for the next one, where one is being started.

        Raises Draining once closed.
        """
        if suspect and self._next is not None:
            await asyncio.shield(self._next)
        async with self._starting:
            if self._closed:
                raise Draining("The decode pool is closed.")
            if self._pool is not None and self._pool.gone:
                await self._end(self._pool)
                self._pool = None
            if self._pool is None:
                self._pool, self._crashes = self._begin(), 0
            return self._pool

    def crashed(self, pool: SandboxPool) -> None:
        """One of these sandbox workers has crashed."""
        if pool is not self._pool:
            return
        self._crashes += 1
        if self._most and self._crashes >= self._most and self._next is None and not self._closed:
            self._next = self._spawn(self._replace())

    async def close(self) -> None:
        """End all fork servers, and their sandbox workers."""
        self._closed = True
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        async with self._starting:
            for pool in tuple(self._running):
                await self._end(pool)

    def _begin(self) -> SandboxPool:
        pool = self._start()
        self._running.add(pool)
        return pool

    async def _end(self, pool: SandboxPool) -> None:
        await pool.close()
        self._running.discard(pool)

    async def _replace(self) -> None:
        fresh = self._begin()
        try:
            await fresh.fill()
        except (ServerGone, SandboxWorkerGone):
            # The next crash tries again.
            await self._end(fresh)
            return
        finally:
            self._next = None
        old, self._pool, self._crashes = self._pool, fresh, 0
        if old is not None:
            self._spawn(self._retire(old))

    async def _retire(self, pool: SandboxPool) -> None:
        """End them once nothing is decoded in them any more."""
        await pool.unused()
        await self._end(pool)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task
