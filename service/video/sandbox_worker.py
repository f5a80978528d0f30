"""A sandbox worker, seen from the process that serves requests: a locked process that decodes what is handed to it.

A sandbox worker holds the two files of one upload at a time and can open no other. It parses untrusted bytes, so what
it says is untrusted too: bounded, checked, never unpickled.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.video.sandbox import allow_other

LENGTH = struct.Struct("!Q")
# What stands before a task: its length, CPU seconds and bytes of a file that it may use, and the size of an upload that
# comes while it is read; 0 for one that is there.
HEAD = struct.Struct("!QQQQ")
# In place of that size: a stream, whose bytes are sent over the same connection as they arrive.
LIVE = (1 << 64) - 1
# What the answer to a request for bytes of the upload is: they are there.
SUPPLIED = b"\1"
# What comes before the next bytes of a stream: whether they have waited too long for the decoder.
IN_TIME, LATE = b"\0", b"\1"
READ_BYTES = 1 << 16
_SANDBOX_LAYERS_BYTES = 1 << 10


class SandboxWorkerGone(Exception):
    """The sandbox worker has ended, or says something else than agreed."""


class SandboxWorker:
    """One sandbox worker; `service.video.sandbox_child` is its other end.

    Methods raise SandboxWorkerGone, except `written` and `close`.

    Attributes:
        pid: its process id.
        tasks: how many it was handed.
        used_s: CPU seconds that it had used when it was handed the last one; None where that cannot be known.
    """

    def __init__(self, pid: int, control: socket.socket, output: int) -> None:
        """`output` is a descriptor from which its standard streams can be read without waiting."""
        control.setblocking(False)
        self._control = control
        self._output = output
        self._unread = bytearray()
        self._sandbox_layers: list[str] | None = None
        self.pid = pid
        self.tasks = 0
        self.used_s: float | None = None

    async def sandbox_layers(self) -> list[str]:
        """Names of the sandbox layers that are active on this machine; waits until they are."""
        if self._sandbox_layers is None:
            try:
                self._sandbox_layers = [
                    str(name) for name in json.loads(await self.report(_SANDBOX_LAYERS_BYTES))["layers"]
                ]
            except (ValueError, KeyError, TypeError):
                raise SandboxWorkerGone from None
        return self._sandbox_layers

    async def begin(
        self, upload: int, clips: int, task: bytes, *, cpu_s: int, file_bytes: int, supplied: int = 0
    ) -> None:
        """Hand over two descriptors and a task, with `cpu_s` more CPU seconds and files of up to `file_bytes`.

        The upload has `supplied` bytes where they come while it is read, and is a stream where that is LIVE.
        """
        # Nothing of an upload comes to a process that has not locked itself in.
        await self.sandbox_layers()
        message = HEAD.pack(len(task), cpu_s, file_bytes, supplied) + task
        with _gone():
            if sys.platform == "linux":
                self.used_s = _cpu_s(self.pid)
                allow_other(self.pid, self.used_s, cpu_s, file_bytes)
            sent = socket.send_fds(self._control, [message], [upload, clips])
            await asyncio.get_running_loop().sock_sendall(self._control, message[sent:])
        self.tasks += 1

    async def report(self, most_bytes: int) -> bytes:
        """What it says next: JSON, if it keeps to what was agreed."""
        (size,) = LENGTH.unpack(await self._exactly(LENGTH.size))
        if size > most_bytes:
            raise SandboxWorkerGone
        return await self._exactly(size)

    async def supply(self) -> None:
        """Say that the bytes of the upload are there which it asked for."""
        with _gone():
            await asyncio.get_running_loop().sock_sendall(self._control, SUPPLIED)

    async def send(self, data: bytes, *, late: bool) -> None:
        """The next bytes of a stream, which it asked for; none at its end. They are `late` if they waited too long."""
        with _gone():
            message = (LATE if late else IN_TIME) + LENGTH.pack(len(data)) + data
            await asyncio.get_running_loop().sock_sendall(self._control, message)

    def written(self) -> bytes:
        """What it has written to its standard streams since the last time, as far as that was kept."""
        try:
            return os.read(self._output, READ_BYTES)
        except OSError:
            # Nothing was written, or the pipe is closed.
            return b""

    def close(self) -> None:
        """Forget it; an idle sandbox worker ends then."""
        self._control.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    async def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            with _gone():
                chunk = await asyncio.get_running_loop().sock_recv(self._control, READ_BYTES)
            if not chunk:
                raise SandboxWorkerGone
            self._unread += chunk
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data


@contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SandboxWorkerGone from error


def _cpu_s(pid: int) -> float:
    """CPU seconds that the process has used."""
    # Linux's number of the clock of a process; the C library makes the same one in clock_getcpuclockid.
    return time.clock_gettime((~pid << 3) | 2)
