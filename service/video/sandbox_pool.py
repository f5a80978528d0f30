"""Which sandbox worker decodes which upload: one that has seen no other caller's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from service.video.forkserver_client import Exit, ForkServer, ServerGone
from service.video.sandbox_worker import SandboxWorker


class SandboxPool:
    """The sandbox workers of one fork server: at most `most` that have seen uploads, and as many fresh ones.

    A sandbox worker is used for at most `uploads` of one caller, and never again once an upload has failed in it.
    """

    def __init__(self, server: ForkServer, most: int, uploads: int) -> None:
        self._server = server
        self._most = most
        self._uploads = uploads
        self._idle: list[tuple[str, SandboxWorker]] = []
        self._fresh: list[SandboxWorker] = []
        self._busy = 0
        self._apart = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._forking: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> bool:
        """Whether the fork server has ended, and with it all sandbox workers."""
        return self._server.gone

    async def fill(self) -> list[str]:
        """Fork all fresh workers; returns the sandbox layers of one. Raises ServerGone, SandboxWorkerGone."""
        while len(self._fresh) < self._most:
            await self._fork()
        return await self.sandbox_layers(self._fresh[-1])

    async def sandbox_layers(self, worker: SandboxWorker) -> list[str]:
        """The sandbox layers of this worker. Raises SandboxWorkerGone."""
        return [*self._server.sandbox_layers, *await worker.sandbox_layers()]

    async def take(self, caller: str) -> SandboxWorker:
        """A sandbox worker for an upload of `caller`; it comes back by `give_back` or `end`. Raises ServerGone."""
        own = next((idle for idle in self._idle if idle[0] == caller), None)
        if own is not None:
            self._idle.remove(own)
            worker = own[1]
        else:
            while not self._fresh:
                await self._fork()
            worker = self._fresh.pop(0)
        self._busy += 1
        self._unused.clear()
        while self._idle and self._busy + len(self._idle) > self._most:
            self._spawn(self._server.end(self._idle.pop(0)[1]))
        # The next caller's sandbox worker is made while this one works.
        self._refill()
        return worker

    async def take_apart(self) -> SandboxWorker:
        """A fresh sandbox worker that takes no place of one for uploads; it goes by `end_apart`. Raises ServerGone."""
        while not self._fresh:
            await self._fork()
        worker = self._fresh.pop(0)
        self._apart += 1
        self._unused.clear()
        self._refill()
        return worker

    async def end_apart(self, worker: SandboxWorker) -> Exit:
        """Kill a sandbox worker of `take_apart` and wait for its end. Raises ServerGone."""
        self._apart -= 1
        self._busy += 1
        return await self.end(worker)

    def give_back(self, worker: SandboxWorker, caller: str) -> None:
        """The sandbox worker has decoded an upload of `caller`."""
        if worker.tasks < self._uploads:
            self._free()
            self._idle.append((caller, worker))
        else:
            self.discard(worker)

    def discard(self, worker: SandboxWorker) -> None:
        """Kill a sandbox worker that was taken, without waiting for it."""
        self._free()
        self._spawn(self._server.end(worker))

    async def end(self, worker: SandboxWorker) -> Exit:
        """Kill a sandbox worker that was taken and wait for its end. Raises ServerGone."""
        self._free()
        return await self._server.end(worker)

    async def unused(self) -> None:
        """Wait until none is taken."""
        await self._unused.wait()

    async def close(self) -> None:
        """Kill all sandbox workers, and the fork server."""
        await self._server.close()
        while self._beside:
            await asyncio.gather(*self._beside, return_exceptions=True)
        for worker in (*(worker for _, worker in self._idle), *self._fresh):
            worker.close()

    def _free(self) -> None:
        self._busy -= 1
        if not self._busy + self._apart:
            self._unused.set()

    async def _fork(self) -> None:
        """Wait for one more fresh sandbox worker; others may wait for the same. Raises ServerGone."""
        self._refill()
        if self._forking is not None:
            await asyncio.shield(self._forking)
        if self._server.gone:
            raise ServerGone

    def _refill(self) -> None:
        if self._forking is None and len(self._fresh) < self._most:
            self._forking = self._spawn(self._forked())

    async def _forked(self) -> None:
        try:
            self._fresh.append(await self._server.fork())
        finally:
            self._forking = None
        self._refill()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[None]:
        async def quietly() -> None:
            # The next caller learns that there is no server any more.
            with contextlib.suppress(ServerGone):
                await work

        task = asyncio.create_task(quietly())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task
