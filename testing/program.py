"""The whole program as its users start it, for end-to-end tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import httpx
import psutil
import redis

from service.local.process import ServerProcess, free_ports
from service.queue.partitions import PerPartition, QueueAddress
from service.queue.redis_keys import RedisKeys
from testing.spread import Spread

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
# In the environment of a run it divides the queue of every program that has no number of its own.
PARTITIONS = "VIDTR_QUEUE_PARTITIONS"


@dataclass(frozen=True)
class Size:
    """How many processes of each kind a program has."""

    apis: int = 1
    workers: int = 1

    def __str__(self) -> str:
        return f"{self.apis}x{self.workers}"


# Every program of a run can be a larger one than `vidtr up` is.
SIZE = Size(int(os.environ.get("VIDTR_TEST_APIS", "1")), int(os.environ.get("VIDTR_TEST_WORKERS", "1")))


class Program:
    """`vidtr up` on a free port, with its state in `directory` and settings from `settings` and `environment`.

    In a larger `size` more API and worker processes share its Redis, and `port` spreads connections over all APIs.
    `code` is a folder with the code of another version, to be run instead of this one.
    """

    running: ClassVar[set[Program]] = set()
    """those that have been started and not stopped"""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        size: Size = SIZE,
        code: Path | None = None,
        settings: Mapping[str, str] | None = None,
        **environment: str,
    ) -> None:
        self.directory = directory
        self._ports = free_ports(size.apis)
        self._spread = Spread(self._ports) if size.apis > 1 else None
        self.port = self._spread.port if self._spread else self._ports[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "program.log"
        self._size = size
        self._code = code
        self._arguments = arguments
        self._environment = {**(settings or {}), **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._others: list[tuple[str, ServerProcess]] = []

    def __enter__(self) -> Self:
        """Start it. What has begun of one that does not come up is stopped."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.running.add(self)
        command = [sys.executable, "-m", "service.cli.main", "up", "--port", str(self._ports[0])]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state-dir", str(self.directory / "state"), *self._arguments],
                env={**os.environ, **self._environment},
                cwd=self._code,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_until(lambda: _ready(self._ports[0]))
        if self._size != Size():
            self._start_others()

    def _start_others(self) -> None:
        # The same settings, and the same private Redis, as the processes that there are.
        environment = self.process("api").environ()
        for port in self._ports[1:]:
            self._start_other("api", {**environment, "VIDTR_PORT": str(port)})
        for _ in range(self._size.workers - 1):
            self._start_other("worker", environment)
        with redis.Redis.from_url(self.redis_url) as server:
            workers = self.keys[0].workers
            self._wait_until(lambda: server.zcard(workers) == self._size.workers)
        for port in self._ports:
            self._wait_until(lambda port=port: _ready(port))  # type: ignore[misc]

    def _start_other(self, role: str, environment: dict[str, str]) -> None:
        log = self.directory / f"{role}-{len(self._others)}.log"
        command = [sys.executable, "-m", "service.cli.main", role]
        process = ServerProcess(command, name=f"another {role}", log=log, environment=environment)
        process.start()
        self._others.append((role, process))

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT_S
        while not ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    @property
    def keys(self) -> PerPartition[RedisKeys]:
        """The names of its keys, in each partition of its queue."""
        count = int(self._environment.get(PARTITIONS, os.environ.get(PARTITIONS, "1")))
        return QueueAddress("redis://localhost", "vidtr", count).key_names()

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    @cached_property
    def redis_url(self) -> str:
        """Address of its private Redis."""
        for process in self.descendants:
            # The server rewrites its command line: the name of the socket stands in it, not as an argument of its own.
            if found := re.search(r"(/\S+/redis\.sock)", " ".join(command_line(process))):
                return f"unix://{found[1]}"
        raise AssertionError("no private Redis runs")

    @property
    def descendants(self) -> list[psutil.Process]:
        """Every process that the program started, and itself."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def process(self, role: str) -> psutil.Process:
        """Its process of one role, such as `api` or `worker`."""
        [process] = [process for process in self.descendants if command_line(process)[-1:] == [role]]
        return process

    def others(self, role: str) -> list[psutil.Process]:
        """Its processes of one role beside that of `vidtr up`."""
        pids = [process.pid for of_role, process in self._others if of_role == role]
        return [psutil.Process(pid) for pid in pids if pid is not None and psutil.pid_exists(pid)]

    def kill_other(self, role: str) -> None:
        """SIGKILL to a process of this role beside that of `vidtr up`; another is started in its place.

        To be called from the thread that started the program, with whose end its processes end.
        """
        process = next(process for of_role, process in self._others if of_role == role)
        process.stop(grace_s=0)
        process.start()

    @property
    def other_api(self) -> tuple[str, int]:
        """Address and process id of an API beside that of `vidtr up`, which ends with its API."""
        pid = self._others[0][1].pid
        assert pid is not None
        return f"http://127.0.0.1:{self._ports[1]}", pid

    @property
    def first_url(self) -> str:
        """Address of the API of `vidtr up` itself."""
        return f"http://127.0.0.1:{self._ports[0]}"

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the program's main process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        return self._process.wait(60)

    def stop(self) -> None:
        """SIGTERM and wait; harmless when it has ended."""
        self.running.discard(self)
        for _, process in self._others:
            process.stop(STOP_TIMEOUT_S)
        self._others.clear()
        if self._process is not None and self._process.poll() is None:
            self.signal()
            self.wait()
        if self._spread is not None:
            self._spread.close()

    def client(self) -> httpx.Client:
        """An HTTP client of the program."""
        return httpx.Client(base_url=self.url, timeout=120)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).is_success
    except httpx.TransportError:
        return False


def upload(client: httpx.Client, path: Path, **options: str | int | float) -> httpx.Response:
    """POST the file as curl -F does."""
    with path.open("rb") as file:
        return client.post("/v1/classify", files={"file": (path.name, file)}, params=options)


def command_line(process: psutil.Process) -> list[str]:
    """The arguments of a process, its name first; nothing where it has ended since it was listed."""
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def runs(process: psutil.Process) -> bool:
    """False where it has ended, waited for or not; it may end while it is asked."""
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
