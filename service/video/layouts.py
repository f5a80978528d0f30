"""Which fork server makes the cells: all cells of one have their memory at the same addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from service.errors import Draining
from service.video.forkserver_client import ServerGone
from service.video.sandbox_pool import Cells
from service.video.sandbox_worker import CellGone


class Layouts:
    """The cells of the fork server of the moment; another one is started when it has ended, or cells have crashed.

    Whoever attacks a decoder has to guess addresses, and a wrong guess is a crash: after `crashes` of them (0 for any
    number) the addresses change. The next fork server starts beside the old one, whose decodes go on to their end.
    """

    def __init__(self, start: Callable[[], Cells], crashes: int) -> None:
        self._start = start
        self._most = crashes
        self._crashes = 0
        self._cells: Cells | None = None
        self._running: set[Cells] = set()
        self._closed = False
        self._starting = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()

    async def cells(self, *, suspect: bool = False) -> Cells:
        """Those of a fork server that is there; a `suspect` waits for the next one, where one is being started.

        Raises Draining once closed.
        """
        if suspect and self._next is not None:
            await asyncio.shield(self._next)
        async with self._starting:
            if self._closed:
                raise Draining("The decode pool is closed.")
            if self._cells is not None and self._cells.gone:
                await self._end(self._cells)
                self._cells = None
            if self._cells is None:
                self._cells, self._crashes = self._begin(), 0
            return self._cells

    def crashed(self, cells: Cells) -> None:
        """One of these cells has crashed."""
        if cells is not self._cells:
            return
        self._crashes += 1
        if self._most and self._crashes >= self._most and self._next is None and not self._closed:
            self._next = self._spawn(self._replace())

    async def close(self) -> None:
        """End all fork servers, and their cells."""
        self._closed = True
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        async with self._starting:
            for cells in tuple(self._running):
                await self._end(cells)

    def _begin(self) -> Cells:
        cells = self._start()
        self._running.add(cells)
        return cells

    async def _end(self, cells: Cells) -> None:
        await cells.close()
        self._running.discard(cells)

    async def _replace(self) -> None:
        fresh = self._begin()
        try:
            await fresh.fill()
        except (ServerGone, CellGone):
            # The next crash tries again.
            await self._end(fresh)
            return
        finally:
            self._next = None
        old, self._cells, self._crashes = self._cells, fresh, 0
        if old is not None:
            self._spawn(self._retire(old))

    async def _retire(self, cells: Cells) -> None:
        """End them once nothing is decoded in them any more."""
        await cells.unused()
        await self._end(cells)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task
