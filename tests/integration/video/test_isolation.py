"""What of the process that serves requests a sandbox worker can see, and where what it writes goes."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from service.contracts import JobRequest
from service.errors import SandboxMissing, Undecodable
from service.video.sandbox import lacking
from tests.fixtures.bare_machine import prepare_on_a_bare_machine
from tests.fixtures.evil_worker import program, take_over
from tests.integration.video.test_pool import fork_servers, running, sandbox_workers
from tests.unit.video.common import SPEC

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")

SAY = 'report = {{"error": {{"code": "undecodable", "detail": {detail}}}}}'


def memory(process: psutil.Process) -> Iterable[bytes]:
    """All that a process has in memory, by pieces."""
    with open(f"/proc/{process.pid}/maps") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as content:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(place, 16) for place in span.split("-"))
            if rights[0] == "r" and "[v" not in line:
                content.seek(start)
                try:
                    yield content.read(end - start)
                except OSError:
                    continue


async def test_no_secret_of_the_api_is_in_a_process_that_decodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # In two halves, so that no code holds it whole.
    canary = "canary-" + os.urandom(16).hex()
    monkeypatch.setenv("VIDTR_WEBHOOK_SECRET", canary)
    heap = {"secret": canary * 3}
    ours, theirs = socket.socketpair()
    ours.sendall(canary.encode())
    with ours, theirs, (tmp_path / "secret").open("w+") as held:
        held.write(canary)
        held.flush()
        os.set_inheritable(held.fileno(), True)
        os.set_inheritable(theirs.fileno(), True)
        async with running():
            for process in (*fork_servers(), *sandbox_workers()):
                with open(f"/proc/{process.pid}/environ", "rb") as environment:  # noqa: ASYNC230 - it is no file
                    assert environment.read() == b""
                assert not any(canary.encode() in piece for piece in memory(process))
                assert str(tmp_path / "secret") not in [file.path for file in process.open_files()]
    assert heap


async def test_a_cell_that_was_taken_over_finds_no_secret_to_answer_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary = "canary-" + os.urandom(16).hex()
    monkeypatch.setenv("VIDTR_WEBHOOK_SECRET", canary)
    take_over(monkeypatch)
    look = """
found = [str(dict(os.environ))]
block = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
place = 0
while block and block[place]:
    found.append(block[place].decode())
    place += 1
for number in range(64):
    try:
        found.append(str(os.pread(number, 4096, 0)))
    except OSError:
        pass
"""
    upload = program(tmp_path / "evil", look + SAY.format(detail='" ".join(found)'))
    async with running() as pool:
        with pytest.raises(Undecodable) as caught:
            await pool.decode(upload, tmp_path / "out", SPEC, JobRequest())
    assert "OPENBLAS_NUM_THREADS" in caught.value.detail
    assert canary not in caught.value.detail
    assert "VIDTR" not in caught.value.detail.replace("#evil", "")


async def test_what_a_cell_writes_is_logged_as_one_line_of_its_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    take_over(monkeypatch)
    forged = json.dumps({"event": "job_accepted", "job": "forged"})
    source = f"""
os.write(1, {forged!r}.encode() + b"\\n")
for _ in range(1000):
    try:
        os.write(2, b"\\x1b[2J" + bytes(1000))
    except BlockingIOError:
        break
"""
    upload = program(tmp_path / "evil", source + SAY.format(detail='"done"'))
    async with running() as pool:
        with caplog.at_level(logging.WARNING), pytest.raises(Undecodable):
            await pool.decode(upload, tmp_path / "out", SPEC, JobRequest(), job="4711")
    [record] = [record for record in caplog.records if "4711" in record.getMessage()]
    assert record.getMessage().isprintable()
    assert "forged" in record.getMessage()
    assert len(record.getMessage()) < 3000
    written = capfd.readouterr()
    assert "forged" not in written.out
    assert "\x1b" not in written.out + written.err


@pytest.mark.parametrize(
    ("active", "missing"),
    [
        (["network namespace", "landlock", "seccomp"], None),
        (["landlock", "seccomp"], None),
        (["network namespace", "seccomp"], None),
        (["seccomp"], "landlock, or else a network namespace"),
        (["network namespace", "landlock"], "seccomp"),
        ([], "seccomp"),
    ],
)
def test_the_least_of_a_sandbox_is_the_filter_and_one_wall_more(active: list[str], missing: str | None) -> None:
    assert lacking(active) == missing


def without_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork servers of this test run on a machine that has no sandbox."""
    monkeypatch.setattr("service.video.pool.prepare_decoder", prepare_on_a_bare_machine)


async def test_where_the_sandbox_is_required_and_missing_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    without_layers(monkeypatch)
    with pytest.raises(SandboxMissing, match="decode_sandbox=require also needs seccomp"):
        async with running(decode_sandbox="require"):
            pass


async def test_best_effort_decodes_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    without_layers(monkeypatch)
    async with running(decode_sandbox="best_effort") as pool:
        assert "seccomp" not in pool.sandbox
        assert pool.unsafe is None


async def test_this_machine_has_what_is_required() -> None:
    async with running(decode_sandbox="require") as pool:
        assert pool.unsafe is None
