"""The fork server, seen from the process that serves requests: asked for cells, and to end them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
from dataclasses import dataclass
from typing import Any

from service.video import forking
from service.video.cell import Cell

_ANSWER_BYTES = 1 << 12
_END_S = 5.0
# It answers in milliseconds, once it has loaded all that it needs.
_ANSWER_S = 60.0


class ServerGone(Exception):
    """The fork server has ended, and all its cells with it."""


@dataclass(frozen=True)
class Exit:
    """How a cell ended: its exit status, negative for a signal, after `cpu_s` CPU seconds in all."""

    code: int
    cpu_s: float


class ForkServer:
    """A running fork server; at its other end is `service.video.forking`.

    Its processes die with the thread that started it. Every method but `close` waits until it is ready, and raises
    ServerGone.

    Attributes:
        layers: names of what shuts in all its cells on this machine; known with the first of them.
        gone: whether it has ended.
    """

    def __init__(self, prepare: forking.Prepare) -> None:
        self._control, inside = socket.socketpair()
        self._control.setblocking(False)
        self._process = multiprocessing.get_context("spawn").Process(
            target=forking.serve, args=(prepare, inside, os.getpid()), daemon=True
        )
        self._process.start()
        inside.close()
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[Any]] = set()
        self._ready = False
        self.gone = False
        self.layers: list[str] = []

    async def fork(self) -> Cell:
        """A fresh cell."""
        answer, descriptor = await self._ask(None)
        return Cell(answer["pid"], socket.socket(fileno=descriptor))

    async def end(self, cell: Cell) -> Exit:
        """Kill a cell; when this returns, it is no more."""
        cell.close()
        answer, _ = await self._ask(cell.pid)
        return Exit(answer["code"], answer["cpu_s"])

    async def close(self) -> None:
        """Kill it and its cells."""
        self.gone = True
        self._process.kill()
        await asyncio.to_thread(self._process.join, _END_S)
        await asyncio.gather(*self._asking, return_exceptions=True)
        self._control.close()

    async def _ask(self, pid: int | None) -> tuple[dict[str, Any], int | None]:
        """To fork, or to end the cell `pid`. Goes on where the caller is cancelled: answers come in turn."""
        task = asyncio.create_task(self._asked(pid))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return await asyncio.shield(task)

    async def _asked(self, pid: int | None) -> tuple[dict[str, Any], int | None]:
        async with self._turn:
            if self.gone:
                raise ServerGone
            try:
                async with asyncio.timeout(_ANSWER_S):
                    if not self._ready:
                        self.layers = (await self._answer())[0]["layers"]
                        self._ready = True
                    with contextlib.suppress(OSError):
                        await asyncio.get_running_loop().sock_sendall(self._control, json.dumps(pid).encode() + b"\n")
                    return await self._answer()
            except TimeoutError:
                self.gone = True
                self._process.kill()
                raise ServerGone from None

    async def _answer(self) -> tuple[dict[str, Any], int | None]:
        line, descriptors = b"", []
        try:
            while not line.endswith(b"\n"):
                await self._readable()
                data, received, *_ = socket.recv_fds(self._control, _ANSWER_BYTES, 1)
                if not data:
                    raise EOFError
                line += data
                descriptors += received
        except (OSError, EOFError):
            self.gone = True
            raise ServerGone from None
        return json.loads(line), descriptors[0] if descriptors else None

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._control)
