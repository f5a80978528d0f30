"""What a process that decodes can still do: asked of a real one, from inside."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.video import sandbox_child
from service.video.forkserver_main import end_worker, fork_worker
from service.video.sandbox_worker import SandboxWorker, SandboxWorkerGone
from tests.integration.video.test_pool import running, sandbox_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's sandbox")


async def report(work: sandbox_child.Work, task: bytes = b"") -> dict[str, Any]:
    """What a sandbox worker that does this work says to a task with two empty files. Raises SandboxWorkerGone."""
    pid, connection, output = fork_worker(work)
    worker = SandboxWorker(pid, connection, output)
    try:
        with open(os.devnull, "rb") as nothing:  # noqa: ASYNC230 - it is no file
            await worker.begin(nothing.fileno(), nothing.fileno(), task, cpu_s=10, file_bytes=1)
        return dict(json.loads(await worker.report(1 << 20)))
    finally:
        ended.append(end_worker(pid)["code"])
        worker.close()


# Exit statuses of the sandbox workers so far, negative for a signal.
ended: list[int] = []


async def outcome(attempt: Callable[[], Any]) -> str:
    """How `attempt` ends in a sandbox worker."""

    def work(upload: object, clips: object, task: bytes, tell: object) -> dict[str, Any]:
        try:
            return {"outcome": f"succeeded: {attempt()}"}
        except OSError as error:
            return {"outcome": type(error).__name__}

    return str((await report(work))["outcome"])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("another upload")
    return tmp_path / "secret"


async def test_a_decode_that_begins_interrupts_nobody() -> None:
    async with running():
        assert {os.sched_getscheduler(worker.pid) for worker in sandbox_workers()} == {os.SCHED_BATCH}


async def test_it_opens_no_file(secret: Path) -> None:
    assert await outcome(secret.read_text) == "PermissionError"


async def test_it_writes_no_file(secret: Path) -> None:
    assert await outcome(lambda: secret.write_text("overwritten")) == "PermissionError"
    assert secret.read_text() == "another upload"


async def test_it_lists_no_directory(secret: Path) -> None:
    assert await outcome(lambda: os.listdir(secret.parent)) == "PermissionError"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
async def test_it_opens_no_socket(family: socket.AddressFamily) -> None:
    assert await outcome(lambda: socket.socket(family)) == "PermissionError"


async def test_it_starts_no_program() -> None:
    assert await outcome(lambda: subprocess.run(["/bin/true"], check=True)) == "PermissionError"
    assert await outcome(lambda: os.execv("/bin/true", ["true"])) == "PermissionError"  # noqa: S606


async def test_it_signals_no_process() -> None:
    parent = os.getpid()
    assert await outcome(lambda: os.kill(parent, signal.SIGUSR1)) == "PermissionError"


async def test_it_holds_no_file_but_its_own(secret: Path) -> None:
    with secret.open("rb") as held:
        assert await outcome(lambda: os.read(held.fileno(), 8)) == "OSError"


async def test_one_that_crashes_is_reported_by_its_signal() -> None:
    def work(upload: object, clips: object, task: bytes, tell: object) -> dict[str, Any]:
        # Its handler would raise the signal again, which a sandbox worker may not.
        faulthandler.disable()
        ctypes.string_at(0)
        return {}

    with pytest.raises(SandboxWorkerGone):
        await report(work)
    assert ended[-1] == -signal.SIGSEGV


async def test_one_whose_work_raises_ends_with_an_exit_status() -> None:
    def work(upload: object, clips: object, task: bytes, tell: object) -> dict[str, Any]:
        # It may not even signal itself.
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    with pytest.raises(SandboxWorkerGone):
        await report(work)
    assert ended[-1] == 1


async def test_a_task_may_be_larger_than_what_a_socket_holds() -> None:
    said = await report(lambda upload, clips, task, tell: {"bytes": len(task)}, bytes(8 << 20))
    assert said == {"bytes": 8 << 20}


async def test_the_pool_says_what_is_active() -> None:
    async with running() as pool:
        assert {"process per caller", "seccomp"} <= set(pool.sandbox)
        assert set(pool.sandbox) <= {"process per caller", "network namespace", "landlock", "seccomp"}
