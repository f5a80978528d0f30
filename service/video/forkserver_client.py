"""The fork server, seen from the process that serves requests: asked for sandbox workers, and to end them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from service.video import forkserver_main
from service.video.sandbox_worker import SandboxWorker

# What its interpreter runs: with the modules of this one, of which it inherits nothing.
_MAIN = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from service.video.forkserver_main import main; main(*map(int, sys.argv[1:3]))"
)
_ANSWER_BYTES = 1 << 12
_END_S = 5.0
# It answers in milliseconds, once it has loaded all that it needs.
_ANSWER_S = 60.0


class ServerGone(Exception):
    """The fork server has ended, and all its sandbox workers with it."""


@dataclass(frozen=True)
class Exit:
    """How a sandbox worker ended: its exit status, negative for a signal, after `cpu_s` CPU seconds in all."""

    code: int
    cpu_s: float


class ForkServer:
    """A running fork server; at its other end is `service.video.forkserver_main`.

    It starts as a program of its own, with an empty environment and no file of this process but the connection: what
    is secret here, a sandbox worker that was taken over must not find. It is told what to prepare, and nothing else.

    Its processes die with the thread that started it. Every method but `close` waits until it is ready, and raises
    ServerGone.

    Attributes:
        sandbox_layers: names of the layers that all its sandbox workers share; known with the first of them.
        gone: whether it has ended.
    """

    def __init__(self, prepare: forkserver_main.Prepare) -> None:
        self._control, inside = socket.socketpair()
        with inside:
            told = (str(inside.fileno()), str(os.getpid()), *(os.path.abspath(path) for path in sys.path))
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-I", "-c", _MAIN, *told],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=(inside.fileno(),),
            )
        with contextlib.suppress(BrokenPipeError):
            self._control.sendall(pickle.dumps(prepare))
        self._control.setblocking(False)
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[Any]] = set()
        self._ready = False
        self.gone = False
        self.sandbox_layers: list[str] = []

    async def fork(self) -> SandboxWorker:
        """A fresh sandbox worker."""
        answer, (control, output) = await self._ask(None)
        return SandboxWorker(answer["pid"], socket.socket(fileno=control), output)

    async def end(self, worker: SandboxWorker) -> Exit:
        """Kill a sandbox worker and wait for its end."""
        worker.close()
        answer, _ = await self._ask(worker.pid)
        return Exit(answer["code"], answer["cpu_s"])

    async def close(self) -> None:
        """Kill it and its sandbox workers."""
        self.gone = True
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _END_S)
        await asyncio.gather(*self._asking, return_exceptions=True)
        self._control.close()

    async def _ask(self, pid: int | None) -> tuple[dict[str, Any], list[int]]:
        """To fork, or to end the sandbox worker `pid`. Goes on where the caller is cancelled: answers come in turn."""
        task = asyncio.create_task(self._asked(pid))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return await asyncio.shield(task)

    async def _asked(self, pid: int | None) -> tuple[dict[str, Any], list[int]]:
        async with self._turn:
            if self.gone:
                raise ServerGone
            try:
                async with asyncio.timeout(_ANSWER_S):
                    if not self._ready:
                        self.sandbox_layers = (await self._answer())[0]["layers"]
                        self._ready = True
                    with contextlib.suppress(OSError):
                        await asyncio.get_running_loop().sock_sendall(self._control, json.dumps(pid).encode() + b"\n")
                    return await self._answer()
            except TimeoutError:
                self.gone = True
                self._process.kill()
                raise ServerGone from None

    async def _answer(self) -> tuple[dict[str, Any], list[int]]:
        line, descriptors = b"", list[int]()
        try:
            while not line.endswith(b"\n"):
                await self._readable()
                data, received, *_ = socket.recv_fds(self._control, _ANSWER_BYTES, 2)
                if not data:
                    raise EOFError
                line += data
                descriptors += received
        except (OSError, EOFError):
            self.gone = True
            raise ServerGone from None
        return json.loads(line), descriptors

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._control)
