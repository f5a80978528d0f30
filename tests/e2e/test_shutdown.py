import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from testing.program import Program, Size, command_line, runs, upload

ENDING_S = 5


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, size=Size(), VIDTR_TORCH_THREADS="1") as program:
        yield program


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended. The kernel ends the last helpers of a server after it, which takes a moment."""
    end = time.monotonic() + ENDING_S
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < end:
        time.sleep(0.01)
    return left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_every_process_and_leaves_no_file(
    started: Program, clip: Path, number: signal.Signals
) -> None:
    with started.client() as client:
        assert upload(client, clip).status_code == 200
    processes = started.descendants
    names = " ".join(" ".join(command_line(p)) for p in processes)
    assert "redis-server" in names
    assert len(processes) >= 5
    started.signal(number)
    assert started.wait() == 0
    assert running(processes) == []
    assert "leaked" not in started.log.read_text()
    assert sorted(p.name for p in (started.directory / "state").iterdir()) == ["redis"]


def test_a_stop_under_load_loses_no_accepted_job(started: Program, clip: Path) -> None:
    """Requests in flight finish, or go with a 202; what was accepted is answered after a restart."""
    answered: list[httpx.Response] = []

    def send(number: int) -> httpx.Response | None:
        prefer = "respond-async" if number % 2 else "wait=30"
        with started.client() as client, clip.open("rb") as file:
            try:
                response = client.post("/v1/classify", files={"file": file}, headers={"Prefer": prefer})
            except httpx.TransportError:
                # Never accepted: the connection was refused, or broke before any answer.
                return None
        answered.append(response)
        return response

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(send, number) for number in range(80)]
        while len(answered) < 8 and not all(f.done() for f in futures):
            time.sleep(0.01)
        processes = started.descendants
        started.signal()
        assert started.wait() == 0
    responses = [r for r in (f.result() for f in futures) if r is not None]
    assert running(processes) == []
    assert {r.status_code for r in responses} <= {200, 202, 503}
    accepted = [r.headers["Location"] for r in responses if r.status_code == 202]
    assert accepted
    started.start()
    with started.client() as client:
        for location in accepted:
            status = client.get(location).json()
            while status["status"] in ("queued", "running"):
                time.sleep(0.05)
                status = client.get(location).json()
            assert status["status"] == "succeeded", status
    print(f"\n{len(responses)} answers, {len(accepted)} of them 202: all jobs finished")


def test_an_upload_that_would_outlast_the_stop_is_refused_in_words(tmp_path: Path) -> None:
    with Program(tmp_path, size=Size(), VIDTR_SHUTDOWN_GRACE_S="4") as program:
        with socket.create_connection(("127.0.0.1", program.port)) as connection:
            head = ["Host: 127.0.0.1", "Content-Type: video/mp4", "Content-Length: 1000", "Expect: 100-continue"]
            connection.sendall("\r\n".join(["POST /v1/classify HTTP/1.1", *head, "", ""]).encode())
            with connection.makefile("rb") as answer:
                # Said when the service begins to read the body, of which a hundredth arrives.
                assert answer.readline().startswith(b"HTTP/1.1 100 ")
                connection.sendall(bytes(10))
                program.signal()
                status, _, body = answer.read().lstrip().partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["code"] == "draining"
        assert program.wait() == 0


def test_two_programs_do_not_share_a_state_directory(started: Program) -> None:
    second = Program(started.directory, size=Size())
    with pytest.raises(AssertionError, match="is used by another program"):
        second.start()


def test_a_worker_that_dies_ends_the_program_with_a_message(started: Program) -> None:
    worker = started.process("worker")
    processes = started.descendants
    worker.kill()
    assert started.wait() == 1
    assert "the worker ended" in started.log.read_text()
    assert running(processes) == []
