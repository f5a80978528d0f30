"""A server as a child process: started in a session of its own, watched while it starts, stopped by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

_EXEC_WITH_PARENT = Path(__file__).with_name("exec_with_parent.py")
_POLL_S = 0.02
_TAIL_BYTES = 4096


class LocalServerError(Exception):
    """A private server cannot be installed or started; the message says what to do, or ends with the server's log."""


class NotReadyInTime(LocalServerError):
    """A server ran, and was not ready in the time it had."""


class ServerProcess:
    """One child process whose output goes to a log file, or to where the parent's goes.

    It has its own session, so Ctrl-C in a terminal reaches only the parent, which stops its servers in its own order.
    On Linux the kernel sends it SIGTERM when the *thread* that called `start` ends: start servers from a thread that
    lives as long as they should, normally the main one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        log: Path | None,
        environment: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        """`log` None leaves the output where the parent's goes; `environment` replaces the parent's; `inherited`
        are file descriptors that the child keeps open.
        """
        self._command = list(command)
        self._name = name
        self._log = log
        self._environment = environment
        self._inherited = tuple(inherited)
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers_left = False

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the program; its log is begun anew. Helpers of an earlier one that was killed are killed too."""
        self._kill_helpers()
        with ExitStack() as stack:
            log = None if self._log is None else stack.enter_context(self._log.open("wb"))
            self._process = subprocess.Popen(  # noqa: S603 - the command is the program's own
                [sys.executable, "-I", str(_EXEC_WITH_PARENT), str(os.getpid()), *self._command],
                env=None if self._environment is None else dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._inherited,
            )
            self._helpers_left = True

    def check(self) -> None:
        """Raises LocalServerError, with the end of the server's log, where it has ended."""
        if self.pid is None:
            status = None if self._process is None else self._process.returncode
            raise LocalServerError(self._said(f"ended with status {status}"))

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready()`; a server that ends or stays unready is stopped.

        Raises:
            LocalServerError: with the end of the server's log; NotReadyInTime where it did not end by itself.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end:
                self.stop(grace_s=0)
                raise NotReadyInTime(self._said(f"was not ready after {timeout_s:g} s"))
            time.sleep(_POLL_S)

    def stop(self, grace_s: float) -> int | None:
        """SIGTERM, then after `grace_s` seconds SIGKILL; what is left of its session is killed in any case.

        Returns the exit status, None where it was never started. A second call does nothing and returns the same.
        """
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            if grace_s > 0:
                process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._kill_helpers()
        return process.returncode

    def _kill_helpers(self) -> None:
        # A server that was killed, here or by somebody else, leaves them behind, as Triton does its Python backends.
        # Once only: later its process id may be that of something else.
        if self._process is not None and self._process.poll() is not None and self._helpers_left:
            self._helpers_left = False
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _said(self, what: str) -> str:
        if self._log is None:
            return f"{self._name} {what}; its messages stand above"
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            tail = log.read().decode(errors="replace").strip()
        return f"{self._name} {what}. The end of {self._log}:\n{tail or '(empty)'}"


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that are free on the loopback address now."""
    with ExitStack() as stack:
        # All are held before any is given back, or the system might hand out the same one twice.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
