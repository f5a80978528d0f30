"""The sandbox worker itself: apply the sandbox, then decode uploads in turn, holding only the two files of each."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import IO, Any, NoReturn

from service.video.live_input import LiveInput
from service.video.sandbox import allow, apply_sandbox, bind_to_parent
from service.video.sandbox_worker import HEAD, LATE, LENGTH, LIVE, READ_BYTES, SUPPLIED
from service.video.supply import SuppliedFile


class FdFile:
    """An open file in the place of a path, for a process that may open nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: str) -> IO[bytes]:
        """The file from its beginning; one at a time is read, since all share a position."""
        file = os.fdopen(os.dup(self._descriptor), mode)
        file.seek(0)
        return file


Source = FdFile | SuppliedFile | LiveInput
# Called in the sandbox worker with the upload, the file of the clips, the task as it was handed over, and what it can
# tell meanwhile by; what it tells of a stream is waited for until the other end has taken it.
Work = Callable[[Source, FdFile, bytes, Callable[[dict[str, Any]], None]], dict[str, Any]]


def serve(work: Work, connection: socket.socket, parent: int) -> NoReturn:
    """Be a sandbox worker of the process `parent`, until the other end of `connection` is closed."""
    control = connection.fileno()
    code = 1
    try:
        bind_to_parent(parent)
        _close_others(control)
        _say(control, {"layers": apply_sandbox(control)})
        while (received := socket.recv_fds(connection, HEAD.size, 2))[0]:
            head, (upload, clips), *_ = received
            size, cpu_s, file_bytes, supplied = HEAD.unpack(head + _exactly(control, HEAD.size - len(head)))
            if sys.platform != "linux":
                # There it is allowed from outside: a locked process cannot raise its limits.
                allow(cpu_s, file_bytes)
            task = _exactly(control, size)
            source = _source(control, upload, supplied)
            tell = partial(_ask if supplied == LIVE else _say, control)
            answer = work(source, FdFile(clips), task, tell)
            os.close(upload)
            os.close(clips)
            _say(control, answer)
            # Containers and streams of PyAV hold each other, and with them the pictures: Python would look for such
            # circles so seldom that a process grows by hundreds of megabytes.
            gc.collect()
        code = 0
    except (ConnectionError, EOFError):
        # The other end is gone, or done with this process.
        pass
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Nothing of the parent is to be flushed or torn down twice.
        os._exit(code)


def _source(control: int, upload: int, supplied: int) -> Source:
    if supplied == LIVE:
        return LiveInput(partial(_fetch, control))
    return SuppliedFile(upload, supplied, partial(_ask, control)) if supplied else FdFile(upload)


def _close_others(control: int) -> None:
    """Close all files but this one and the standard streams."""
    os.closerange(3, control)
    os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))


def _say(control: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    data = LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(control, data) :]


def _ask(control: int, request: dict[str, Any]) -> None:
    """Ask for bytes of the upload, and wait until they are there."""
    _say(control, request)
    if _exactly(control, len(SUPPLIED)) != SUPPLIED:
        raise EOFError


def _fetch(control: int, request: dict[str, Any]) -> tuple[bytes, bool]:
    """Ask for the next bytes of a stream, and wait for them; none at its end. And whether they are late."""
    _say(control, request)
    late = _exactly(control, len(LATE)) == LATE
    (size,) = LENGTH.unpack(_exactly(control, LENGTH.size))
    return _exactly(control, size), late


def _exactly(descriptor: int, size: int) -> bytes:
    """`size` bytes; EOFError where there are fewer."""
    chunks = []
    while size:
        chunk = os.read(descriptor, min(size, READ_BYTES))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
