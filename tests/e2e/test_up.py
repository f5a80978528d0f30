"""`vidtr up`: what it says where it cannot start, which of its servers it watches, and the signals that stop it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from service.local.process import free_ports
from testing.program import Program, Size, command_line, upload
from tests.e2e.test_shutdown import running
from tests.fixtures.redis_sets import until

AGAIN = "started again the local Triton server ended with status -9"


def refused(*arguments: object, **environment: str) -> tuple[int, str]:
    """Exit status and messages of a program that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "up", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def test_a_port_of_another_server_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, said = refused("--port", port, "--state-dir", tmp_path / "state")
    assert status == 1
    assert said.startswith(f"error Nothing can listen on 127.0.0.1 port {port}: Address already in use.")
    assert "vidtr is up" not in said
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, said = refused("--port", 0, "--state-dir", tmp_path / "file")
    assert status == 2
    assert "state_dir" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1/abc", "redis+sentinel://127.0.0.1"])
def test_an_address_of_redis_that_cannot_be_used_names_the_setting(url: str) -> None:
    status, said = refused("--port", 0, "--redis-url", url)
    assert status == 2
    assert said.startswith("error setting redis_url:")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, size=Size(), VIDTR_TORCH_THREADS="1") as program:
        yield program


def test_behind_a_proxy_it_comes_up_names_an_address_to_open_and_ends_with_its_terminal(tmp_path: Path) -> None:
    [port] = free_ports(1)
    folders = tmp_path / "tmp"
    folders.mkdir()
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "http_proxy": nowhere, "ALL_PROXY": nowhere, "TMPDIR": str(folders)}
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "service.cli.main", "up", "--host", "::1", "--port", str(port)),
            *("--state-dir", str(tmp_path / "state")),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            said: list[str] = []
            while not (said and said[-1].startswith("vidtr is up")):
                line = process.stderr.readline()
                assert line, "".join(said)
                said.append(line)
            assert said[-1].startswith(f"vidtr is up at http://[::1]:{port} (")
            processes = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGHUP)
            assert "stopping…" in process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert running(processes) == []
    assert list(folders.iterdir()) == []


def test_a_private_redis_that_dies_ends_the_program_with_a_message(started: Program) -> None:
    [server] = [process for process in started.descendants if "redis.sock" in " ".join(command_line(process))]
    processes = started.descendants
    server.kill()
    assert started.wait() == 1
    assert "the local Redis server ended with status -9" in started.log.read_text()
    assert running(processes) == []


def kill_triton(program: Program) -> None:
    for process in program.descendants:
        if process.name() == "tritonserver":
            process.kill()


@pytest.mark.slow
def test_a_private_triton_that_dies_is_started_again(tmp_path: Path, triton_directory: Path, clip: Path) -> None:
    def answered() -> bool:
        with program.client() as client:
            return upload(client, clip).status_code == 200

    with Program(tmp_path, "--engine", "triton", size=Size(), VIDTR_TRITON_DIR=str(triton_directory)) as program:
        kill_triton(program)
        until(lambda: AGAIN in program.log.read_text(), "a new start of Triton")
        until(answered, "an answer of it")


@pytest.mark.slow
def test_a_private_triton_that_keeps_dying_ends_the_program_with_a_message(
    tmp_path: Path, triton_directory: Path
) -> None:
    with Program(tmp_path, "--engine", "triton", size=Size(), VIDTR_TRITON_DIR=str(triton_directory)) as program:
        while program.alive:
            with suppress(psutil.NoSuchProcess):
                kill_triton(program)
            time.sleep(0.5)
        assert program.wait() == 1
        assert "error the local Triton server ended with status -9" in program.log.read_text()


def test_an_api_whose_terminal_ends_answers_what_it_has_begun(started: Program, clip: Path) -> None:
    video = clip.read_bytes()
    lines = ("POST /v1/classify HTTP/1.1", "Host: localhost", f"Content-Length: {len(video)}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", started.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        assert connection.recv(1 << 10).startswith(b"HTTP/1.1 100 ")
        started.process("api").send_signal(signal.SIGHUP)
        connection.sendall(video)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert int(answer.split()[1]) in (200, 202), answer
    assert started.wait() == 1
    assert "the api ended with status 0" in started.log.read_text()
