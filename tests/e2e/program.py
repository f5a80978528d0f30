"""The whole program as its users start it, for end-to-end tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from service.local.process import free_ports

START_TIMEOUT_S = 120


class Program:
    """`vidtr up` on a free port, with its state in `directory` and settings from `environment`."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.directory = directory
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "program.log"
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "service.cli.main", "up", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state-dir", str(self.directory / "state"), *self._arguments],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    @property
    def redis_url(self) -> str:
        """Address of its private Redis."""
        for process in self.descendants:
            # The server rewrites its command line: the name of the socket stands in it, not as an argument of its own.
            if found := re.search(r"(/\S+/redis\.sock)", " ".join(process.cmdline())):
                return f"unix://{found[1]}"
        raise AssertionError("no private Redis runs")

    @property
    def descendants(self) -> list[psutil.Process]:
        """Every process that the program started, and itself."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

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
        if self._process is not None and self._process.poll() is None:
            self.signal()
            self.wait()

    def client(self) -> httpx.Client:
        """An HTTP client of the program."""
        return httpx.Client(base_url=self.url, timeout=120)


def upload(client: httpx.Client, path: Path, **options: str | int | float) -> httpx.Response:
    """POST the file as curl -F does."""
    with path.open("rb") as file:
        return client.post("/v1/classify", files={"file": (path.name, file)}, params=options)
