import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from service.local.process import LocalServerError, ServerProcess, free_ports

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    "print(child.pid, flush=True); "
    "exec(sys.argv[1])"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def python(
    code: str,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
) -> ServerProcess:
    command = [sys.executable, "-u", "-c", code, *arguments]
    return ServerProcess(command, name="the test server", log=log, environment=environment, inherited=inherited)


@pytest.fixture
def stubborn(log: Path) -> Iterator[ServerProcess]:
    server = python(STUBBORN, log)
    server.start()
    server.wait_until(lambda: b"up" in log.read_bytes(), 60)
    yield server
    server.stop(grace_s=0)


def test_an_early_end_is_reported_with_status_and_log(log: Path) -> None:
    server = python("print('no disk'); raise SystemExit(3)", log)
    server.start()

    with pytest.raises(LocalServerError, match=r"(?s)the test server ended with status 3.*no disk"):
        server.wait_until(lambda: False, 60)


def test_a_long_log_is_reported_by_its_end(log: Path) -> None:
    server = python("print('x' * 9999); print('the end'); raise SystemExit(1)", log)
    server.start()

    with pytest.raises(LocalServerError, match=r"the end$") as caught:
        server.wait_until(lambda: False, 60)
    assert len(str(caught.value)) < 5000


def test_a_server_that_never_gets_ready_is_stopped_and_reported(log: Path) -> None:
    server = python("import time; time.sleep(600)", log)
    server.start()

    with pytest.raises(LocalServerError, match=r"was not ready after 0\.1 s"):
        server.wait_until(lambda: False, 0.1)
    assert server.pid is None


def test_a_server_that_honors_sigterm_ends_by_it(log: Path) -> None:
    server = python("import time; print('up'); time.sleep(600)", log)
    server.start()
    server.wait_until(lambda: b"up" in log.read_bytes(), 60)

    assert server.stop(grace_s=60) == -signal.SIGTERM


def test_a_server_that_ignores_sigterm_is_killed(stubborn: ServerProcess) -> None:
    assert stubborn.stop(grace_s=0.1) == -signal.SIGKILL


@pytest.fixture
def helped(log: Path) -> Iterator[tuple[ServerProcess, psutil.Process]]:
    """A server, and the helper it has started."""
    server = python(PARENT, log, STUBBORN)
    server.start()
    # Its number, and a word of each of them, in the order in which they came to run.
    server.wait_until(lambda: len(log.read_text().split()) == 3, 60)
    helper = psutil.Process(int(next(filter(str.isdigit, log.read_text().split()))))
    yield server, helper
    server.stop(grace_s=0)
    if helper.is_running():
        helper.kill()


def test_a_killed_server_takes_its_helpers_along(helped: tuple[ServerProcess, psutil.Process]) -> None:
    server, helper = helped
    server.stop(grace_s=0)

    assert psutil.wait_procs([helper], timeout=60)[1] == []


@pytest.mark.parametrize("again", [ServerProcess.start, lambda server: server.stop(grace_s=0)], ids=["start", "stop"])
def test_helpers_of_a_server_that_somebody_killed_go_at_the_next(
    again: Callable[[ServerProcess], object], helped: tuple[ServerProcess, psutil.Process]
) -> None:
    server, helper = helped
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait_until(lambda: server.pid is None, 60)
    again(server)

    assert psutil.wait_procs([helper], timeout=60)[1] == []


def test_a_second_stop_returns_the_same_status(stubborn: ServerProcess) -> None:
    assert stubborn.stop(grace_s=0) == stubborn.stop(grace_s=0)


def test_a_server_that_was_never_started_has_nothing_to_stop(log: Path) -> None:
    assert python("", log).stop(grace_s=0) is None


def test_a_server_has_a_session_of_its_own(stubborn: ServerProcess) -> None:
    assert stubborn.pid is not None
    assert os.getsid(stubborn.pid) == stubborn.pid


def test_a_server_gets_the_environment_it_is_given(log: Path) -> None:
    server = python("import os; print(os.environ['COLOR']); raise SystemExit(1)", log, environment={"COLOR": "teal"})
    server.start()

    with pytest.raises(LocalServerError, match="teal"):
        server.wait_until(lambda: False, 60)


def test_a_server_inherits_only_the_descriptors_it_is_given(log: Path) -> None:
    given, other = os.pipe()
    os.set_inheritable(other, True)
    code = """
import os, sys
for descriptor in map(int, sys.argv[1:]):
    try:
        os.fstat(descriptor)
        print('open')
    except OSError:
        print('closed')
"""
    server = python(code, log, str(given), str(other), inherited=[given])
    server.start()
    with pytest.raises(LocalServerError, match=r"(?s)open\nclosed$"):
        server.wait_until(lambda: False, 60)
    os.close(given)
    os.close(other)


def test_free_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(5)

    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
