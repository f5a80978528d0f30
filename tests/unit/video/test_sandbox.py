"""What a process that decodes can still do: asked of a real one, from inside."""

from __future__ import annotations

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

from service.video.forked import _fork
from service.video.sandbox import lock_in
from tests.unit.video.test_pool import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's sandbox")


def inside(attempt: Callable[[], Any]) -> str:
    """How `attempt` ends in a locked fork."""

    def work() -> dict[str, Any]:
        lock_in()
        try:
            return {"outcome": f"succeeded: {attempt()}"}
        except OSError as error:
            return {"outcome": type(error).__name__}

    ended = _fork(work)
    return str(json.loads(ended.report)["outcome"]) if ended.code == 0 else f"ended with {ended.code}"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("another upload")
    return tmp_path / "secret"


def test_it_opens_no_file(secret: Path) -> None:
    assert inside(secret.read_text) == "PermissionError"


def test_it_writes_no_file(secret: Path) -> None:
    assert inside(lambda: secret.write_text("overwritten")) == "PermissionError"
    assert secret.read_text() == "another upload"


def test_it_lists_no_directory(secret: Path) -> None:
    assert inside(lambda: os.listdir(secret.parent)) == "PermissionError"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_it_opens_no_socket(family: socket.AddressFamily) -> None:
    assert inside(lambda: socket.socket(family)) == "PermissionError"


def test_it_starts_no_program() -> None:
    assert inside(lambda: subprocess.run(["/bin/true"], check=True)) == "PermissionError"
    assert inside(lambda: os.execv("/bin/true", ["true"])) == "PermissionError"  # noqa: S606


def test_it_signals_no_process() -> None:
    parent = os.getpid()
    assert inside(lambda: os.kill(parent, signal.SIGUSR1)) == "PermissionError"


def test_it_holds_no_file_but_its_own(secret: Path) -> None:
    with secret.open("rb") as held:
        assert inside(lambda: os.read(held.fileno(), 8)) == "OSError"


def test_a_fork_that_crashes_is_reported_by_its_signal() -> None:
    code = _fork(lambda: os.kill(os.getpid(), signal.SIGSEGV) or {}).code
    assert code == -signal.SIGSEGV


async def test_the_pool_says_what_is_active() -> None:
    async with running() as pool:
        assert {"process per upload", "seccomp"} <= set(pool.sandbox)
        assert set(pool.sandbox) <= {"process per upload", "network namespace", "landlock", "seccomp"}
