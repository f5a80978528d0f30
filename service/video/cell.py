"""Cells: processes that are forked from a decode process, lock themselves in, and decode what is handed to them.

A cell holds the two files of one upload at a time and can open no other. `decode_isolation` says whose uploads it sees
one after the other: those of one caller, or a single one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

from service.contracts import DecodedVideo, JobRequest, ModelSpec
from service.errors import InternalError, error_from_dict
from service.video.config import DecodeConfig
from service.video.crash import crash
from service.video.sandbox import allow_child, bind_to_parent, lock_in

_REPORT_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1 << 16
_LENGTH = struct.Struct("!Q")


class HeldFile:
    """An open file in the place of a path, for a process that may open nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: str) -> IO[bytes]:
        """The file from its beginning; one at a time is read, since all share a position."""
        file = os.fdopen(os.dup(self._descriptor), mode)
        file.seek(0)
        return file


# Called in the cell with the upload, the file of the clips, and the task as it was handed over.
Work = Callable[[HeldFile, HeldFile, bytes], dict[str, Any]]


class Ended(Exception):
    """The cell is gone: with exit status `code`, negative for a signal, after `cpu_s` CPU seconds on its last task."""

    def __init__(self, code: int, cpu_s: float) -> None:
        super().__init__(code, cpu_s)
        self.code = code
        self.cpu_s = cpu_s


class Cell:
    """One locked process, seen from the process that forked it.

    Attributes:
        layers: names of what shuts it in on this machine.
        pid: its process id.
        tasks: how many it was handed.
    """

    def __init__(self, work: Work) -> None:
        self._control, inside = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(work, inside, parent)
        inside.close()
        self._used_s = 0.0
        self._layers: list[str] | None = None
        self.tasks = 0

    @property
    def layers(self) -> list[str]:
        """Waits until it is locked in. Raises Ended."""
        if self._layers is None:
            self._layers = [str(name) for name in json.loads(self.report())["layers"]]
        return self._layers

    def begin(self, upload: int, clips: int, task: bytes, *, cpu_s: int, file_bytes: int) -> None:
        """Hand over two descriptors and a task, with `cpu_s` more CPU seconds. Raises Ended."""
        # Nothing of an upload comes to a process that has not locked itself in.
        _ = self.layers
        self.tasks += 1
        self._used_s = _cpu_s(self.pid)
        allow_child(self.pid, self._used_s, cpu_s, file_bytes)
        try:
            socket.send_fds(self._control, [_LENGTH.pack(len(task))], [upload, clips])
            self._control.sendall(task)
        except OSError:
            raise self._ended() from None

    def report(self) -> bytes:
        """What it says next, as JSON. Raises Ended."""
        with contextlib.suppress(OSError, EOFError):
            (size,) = _LENGTH.unpack(_exactly(self._control.fileno(), _LENGTH.size))
            if size <= _REPORT_BYTES:
                return _exactly(self._control.fileno(), size)
        raise self._ended()

    def end(self) -> int:
        """Kill it without waiting for it; returns its process id, which is still to be waited for."""
        os.kill(self.pid, signal.SIGKILL)
        self._control.close()
        return self.pid

    def _ended(self) -> Ended:
        # Where it has ended already this changes nothing; where it only says something else than agreed, it ends.
        os.kill(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        self._control.close()
        return Ended(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime - self._used_s)


class Cells:
    """The cells of one decode process: that of the last caller, and a fresh one for the next.

    A cell is used for at most `limit` tasks of one caller, and never again once a task of it has failed.
    """

    def __init__(self, work: Work, limit: int) -> None:
        self._work = work
        self._limit = limit
        self._current: Cell | None = None
        self._caller = ""
        self._spare: Cell | None = Cell(work)
        self._unreaped: set[int] = set()

    def layers(self) -> list[str]:
        """Names of what shuts in a cell on this machine."""
        self._prepare()
        return [] if self._spare is None else self._spare.layers

    def run(self, caller: str, upload: int, clips: int, task: bytes, *, cpu_s: int, file_bytes: int) -> dict[str, Any]:
        """What the work says about the task: `error` in it means that it failed.

        Raises:
            Ended: the process ended.
            ValueError: what it said is no JSON object.
        """
        if caller != self._caller:
            self._drop()
        cell = self._begun(upload, clips, task, cpu_s, file_bytes)
        self._caller = caller
        # The next caller's process is made while this one works.
        self._prepare()
        failed = True
        try:
            answer = json.loads(cell.report())
            if not isinstance(answer, dict):
                raise ValueError("not an object")
            failed = "error" in answer
        except Ended:
            self._current, failed = None, False
            raise
        finally:
            if failed or (self._current is not None and self._current.tasks >= self._limit):
                self._drop()
        return answer

    def close(self) -> None:
        """Kill all cells, and wait until they are gone."""
        self._drop()
        if self._spare is not None:
            self._unreaped.add(self._spare.end())
            self._spare = None
        while self._unreaped:
            os.waitpid(self._unreaped.pop(), 0)

    def _begun(self, upload: int, clips: int, task: bytes, cpu_s: int, file_bytes: int) -> Cell:
        while True:
            idle = self._current or self._spare
            cell = idle or Cell(self._work)
            if cell is self._spare:
                self._spare = None
            self._current = cell
            try:
                cell.begin(upload, clips, task, cpu_s=cpu_s, file_bytes=file_bytes)
            except Ended:
                self._current = None
                # One that died while it was idle did nothing to this task.
                if idle is None:
                    raise
            else:
                return cell

    def _drop(self) -> None:
        cell, self._current = self._current, None
        if cell is not None:
            self._unreaped.add(cell.end())

    def _prepare(self) -> None:
        if self._spare is None:
            self._spare = Cell(self._work)
        self._unreaped -= {pid for pid in self._unreaped if os.waitpid(pid, os.WNOHANG)[0] == pid}


def task_of(spec: ModelSpec, request: JobRequest) -> bytes:
    """As JSON: to unpickle something, a cell might have to load a module, which it cannot."""
    return json.dumps([spec.model_dump(mode="json"), request.model_dump(mode="json")]).encode()


def read_task(task: bytes) -> tuple[ModelSpec, JobRequest]:
    """The inverse of `task_of`."""
    spec, request = json.loads(task)
    return ModelSpec.model_validate(spec), JobRequest.model_validate(request)


def decode_in_cell(
    cells: Cells, path: Path, out: Path, spec: ModelSpec, request: JobRequest, config: DecodeConfig, caller: str
) -> DecodedVideo:
    """`decode_file` in a cell that holds these two files and may open no other.

    Raises:
        DecodeCpuLimit, DecodeMemoryLimit, DecoderCrash: it used up what it may use, or its process ended.
        VidtrError: whatever `decode_file` found.
    """
    upload = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        clips = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            answer = cells.run(
                caller,
                upload,
                clips,
                task_of(spec, request),
                cpu_s=config.decode_cpu_s,
                file_bytes=config.max_clips_per_job * spec.clip_bytes,
            )
        finally:
            os.close(clips)
    except Ended as ended:
        raise crash(ended.code, config, ended.cpu_s) from None
    except ValueError as error:
        raise InternalError("The decode process reported something unreadable.") from error
    finally:
        os.close(upload)
    return _read(answer)


def _read(answer: dict[str, Any]) -> DecodedVideo:
    # The cell parsed untrusted bytes: what it says is checked, never unpickled.
    try:
        if "error" in answer:
            raise error_from_dict(answer["error"])
        return DecodedVideo.model_validate(answer["decoded"])
    except (ValueError, KeyError, TypeError) as error:
        raise InternalError("The decode process reported something unreadable.") from error


def _cpu_s(pid: int) -> float:
    """CPU seconds that the process has used."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        user, system = file.read().rpartition(b")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# --- in the cell -------------------------------------------------------------------------------------------------


def _serve(work: Work, connection: socket.socket, parent: int) -> NoReturn:
    control = connection.fileno()
    code = 1
    try:
        bind_to_parent(parent)
        _close_others(control)
        _say(control, {"layers": lock_in()})
        while (received := socket.recv_fds(connection, _LENGTH.size, 2))[0]:
            head, (upload, clips), *_ = received
            (size,) = _LENGTH.unpack(head)
            answer = work(HeldFile(upload), HeldFile(clips), _exactly(control, size))
            os.close(upload)
            os.close(clips)
            _say(control, answer)
        code = 0
    except (ConnectionError, EOFError):
        # The parent is gone, or done with this process.
        pass
    except Exception:
        traceback.print_exc()
    finally:
        # Nothing of the parent is to be flushed or torn down twice.
        os._exit(code)


def _close_others(control: int) -> None:
    """Close all files but this one and the standard streams: among them are the pipes of the pool."""
    os.closerange(3, control)
    os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))


def _say(control: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(control, data) :]


def _exactly(descriptor: int, size: int) -> bytes:
    """`size` bytes; EOFError where there are fewer."""
    chunks = []
    while size:
        chunk = os.read(descriptor, min(size, _READ_BYTES))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
