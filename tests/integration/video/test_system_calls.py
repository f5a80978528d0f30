"""What the kernel lets a sandbox worker do that has been taken over, also where a layer of the sandbox is missing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.video.seccomp import permitted
from tests.integration.video.test_sandbox import outcome, report

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's sandbox")

SYSTEM_CALLS = 470
X32 = 1 << 30
# Linux lets these through any filter, for its own probes, and ends with SIGILL who calls them.
PROBES = {335, 336} if platform.machine() == "x86_64" else set()
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(b"/tmp/evil", 4096)


@pytest.fixture(params=["nothing", "landlock", "landlock's scopes"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The layer that this machine does not have; none of these sandbox workers has a network namespace of its own."""
    if request.param == "landlock":
        monkeypatch.setattr("service.video.sandbox.give_up_paths", lambda: False)
    if request.param == "landlock's scopes":
        monkeypatch.setattr("service.video.landlock._SCOPE_VERSION", 99)
    return str(request.param)


@pytest.fixture
def no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose system calls are not filtered."""
    monkeypatch.setattr("service.video.sandbox.filter_system_calls", lambda control: False)


def refused(number: int, *arguments: int) -> bool:
    ctypes.set_errno(0)
    return bool(libc.syscall(number, *(ctypes.c_long(value) for value in arguments)) == -1) and (
        ctypes.get_errno() == errno.EPERM
    )


async def test_every_system_call_that_is_not_needed_is_refused(missing: str) -> None:
    parent, address = os.getpid(), ctypes.addressof(buffer)
    allowed = {call.number for call in permitted(platform.machine(), 0)} | PROBES
    interesting = [
        (0, 0, 0, 0, 0, 0),
        (parent, signal.SIGKILL, 0, 0, 0, 0),
        (address, 0, 0, 0, 0, 0),
        (-100, address, os.O_RDWR | os.O_CREAT, 0o600, 0, 0),
        (0, address, 4096, address, 4096, 0),
        (socket.AF_INET, socket.SOCK_STREAM, 0, 0, 0, 0),
        (-1, -1, -1, -1, -1, -1),
    ]

    def work(upload: object, clips: object, task: bytes, tell: object) -> dict[str, Any]:
        numbers = [number for number in range(SYSTEM_CALLS) if number not in allowed]
        numbers += [X32 | number for number in range(SYSTEM_CALLS)]
        return {"let through": [n for n in numbers for arguments in interesting if not refused(n, *arguments)]}

    assert await report(work) == {"let through": []}


async def test_a_cell_makes_the_kernel_signal_nobody(missing: str) -> None:
    victim = subprocess.Popen(["/bin/sleep", "60"])  # noqa: ASYNC220 - it only starts

    def work(upload: Any, clips: Any, task: bytes, tell: object) -> dict[str, Any]:
        tries: dict[str, tuple[int, Any]] = {
            "F_SETSIG": (10, signal.SIGKILL),
            "F_SETOWN": (fcntl.F_SETOWN, victim.pid),
            "F_SETFL": (fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK),
        }
        done = []
        for name, (command, value) in tries.items():
            try:
                fcntl.fcntl(1, command, value)
                done.append(name)
            except PermissionError:
                pass
        return {"done": done}

    try:
        assert await report(work) == {"done": []}
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


async def test_it_changes_no_size_of_a_file(missing: str) -> None:
    def work(upload: Any, clips: Any, task: bytes, tell: object) -> dict[str, Any]:
        with clips.open("w+b") as file:
            done = [name for name, attempt in attempts(file.fileno()) if attempt()]
        return {"done": done}

    def attempts(descriptor: int) -> list[tuple[str, Any]]:
        return [
            ("ftruncate", lambda: not refused(77 if platform.machine() == "x86_64" else 46, descriptor, 0)),
            ("fallocate", lambda: not refused(285 if platform.machine() == "x86_64" else 47, descriptor, 3, 0, 1)),
        ]

    assert await report(work) == {"done": []}


async def test_it_makes_no_memory_executable(missing: str) -> None:
    def work(upload: Any, clips: Any, task: bytes, tell: object) -> dict[str, Any]:
        mmap, mprotect = (9, 10) if platform.machine() == "x86_64" else (222, 226)
        return {
            "refused": [
                refused(mmap, 0, 4096, 7, 0x22, -1, 0),
                refused(mmap, 0, 4096, 5, 0x22, -1, 0),
                refused(mprotect, ctypes.addressof(buffer) & ~4095, 4096, 7),
            ]
        }

    assert await report(work) == {"refused": [True] * 3}


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.usefixtures("no_filter")
@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12), reason="Landlock keeps signals in from Linux 6.12 on"
)
async def test_without_the_filter_it_opens_nothing_connects_to_nobody_and_signals_nobody(
    tmp_path: Path, listener: int
) -> None:
    (tmp_path / "secret").write_text("another upload")
    parent = os.getpid()
    assert await outcome((tmp_path / "secret").read_text) == "PermissionError"
    assert await outcome(lambda: socket.create_connection(("127.0.0.1", listener))) == "PermissionError"
    assert await outcome(lambda: os.kill(parent, signal.SIGUSR1)) == "PermissionError"
