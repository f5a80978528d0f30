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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.video.cell import Cell, Cells, Ended
from tests.unit.video.test_pool import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's sandbox")


def report(cell: Cell) -> dict[str, Any]:
    """What the cell says to a task with two files of no interest."""
    with open(os.devnull, "rb") as nothing:
        cell.begin(nothing.fileno(), nothing.fileno(), b"", cpu_s=10, file_bytes=1)
        return dict(json.loads(cell.report()))


def closed(cell: Cell) -> None:
    os.waitpid(cell.end(), 0)


def inside(attempt: Callable[[], Any]) -> str:
    """How `attempt` ends in a cell."""

    def work(upload: object, clips: object, task: bytes) -> dict[str, Any]:
        try:
            return {"outcome": f"succeeded: {attempt()}"}
        except OSError as error:
            return {"outcome": type(error).__name__}

    cell = Cell(work)
    outcome = str(report(cell)["outcome"])
    closed(cell)
    return outcome


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


def test_one_that_crashes_is_reported_by_its_signal() -> None:
    def work(upload: object, clips: object, task: bytes) -> dict[str, Any]:
        # Its handler would raise the signal again, which a cell may not.
        faulthandler.disable()
        ctypes.string_at(0)
        return {}

    with pytest.raises(Ended) as caught:
        report(Cell(work))
    assert caught.value.code == -signal.SIGSEGV


def test_one_whose_work_raises_ends_with_an_exit_status() -> None:
    # It may not even signal itself.
    cell = Cell(lambda upload, clips, task: os.kill(os.getpid(), signal.SIGSEGV) or {})
    with pytest.raises(Ended) as caught:
        report(cell)
    assert caught.value.code == 1


def test_one_that_is_killed_is_reported_by_its_signal() -> None:
    cell = Cell(lambda upload, clips, task: time.sleep(60) or {})
    with open(os.devnull, "rb") as nothing:
        cell.begin(nothing.fileno(), nothing.fileno(), b"", cpu_s=10, file_bytes=1)
    os.kill(cell.pid, signal.SIGTERM)
    with pytest.raises(Ended) as caught:
        cell.report()
    assert caught.value.code == -signal.SIGTERM


def work(upload: object, clips: object, task: bytes) -> dict[str, Any]:
    """Says in which process it ran, and fails where it is told to."""
    return {"pid": os.getpid(), **({"error": "told to"} if task == b"fail" else {})}


CellsOf = Callable[[int], Callable[..., int]]


@pytest.fixture
def cells_of() -> Iterator[CellsOf]:
    """Makes cells for so many uploads each, and gives a way to hand one over and learn which process it came to."""
    made: list[Cells] = []

    def limited(limit: int) -> Callable[..., int]:
        cells = Cells(work, limit)
        made.append(cells)

        def ran(caller: str, task: str = "") -> int:
            with open(os.devnull, "rb") as nothing:
                said = cells.run(caller, nothing.fileno(), nothing.fileno(), task.encode(), cpu_s=10, file_bytes=1)
            return int(said["pid"])

        return ran

    yield limited
    for cells in made:
        cells.close()


def test_uploads_of_one_caller_share_a_process(cells_of: CellsOf) -> None:
    ran = cells_of(100)
    assert len({ran("ann") for _ in range(5)}) == 1


def test_no_process_sees_the_uploads_of_two_callers(cells_of: CellsOf) -> None:
    ran = cells_of(100)
    by_caller = [(caller, ran(caller)) for caller in ("ann", "bob", "ann", "ann", "bob")]
    assert not {pid for name, pid in by_caller if name == "ann"} & {pid for name, pid in by_caller if name == "bob"}


def test_a_process_is_replaced_after_its_share_of_uploads(cells_of: CellsOf) -> None:
    ran = cells_of(2)
    first, second, third, fourth = (ran("ann") for _ in range(4))
    assert (first == second, second == third, third == fourth) == (True, False, True)


def test_a_process_for_each_upload(cells_of: CellsOf) -> None:
    ran = cells_of(1)
    assert len({ran("ann") for _ in range(4)}) == 4


def test_a_process_whose_upload_failed_is_not_used_again(cells_of: CellsOf) -> None:
    ran = cells_of(100)
    assert ran("ann", "fail") != ran("ann")


def test_one_that_died_idle_is_replaced_unseen(cells_of: CellsOf) -> None:
    ran = cells_of(100)
    first = ran("ann")
    os.kill(first, signal.SIGKILL)
    while psutil.Process(first).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert ran("ann") != first


def test_those_that_are_over_leave_no_zombies(cells_of: CellsOf) -> None:
    ran = cells_of(1)
    over = {ran("ann") for _ in range(5)}
    while over & {child.pid for child in psutil.Process().children()}:
        ran("ann")


async def test_the_pool_says_what_is_active() -> None:
    async with running() as pool:
        assert {"process per caller", "seccomp"} <= set(pool.sandbox)
        assert set(pool.sandbox) <= {"process per caller", "network namespace", "landlock", "seccomp"}
