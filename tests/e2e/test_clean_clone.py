"""A newcomer's first minutes: clone, `make run`, one upload, Ctrl-C."""

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from service.local.process import free_ports
from testing.program import upload

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_make_run_alone_leads_to_an_answer(tmp_path: Path, clip: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    port = free_ports(1)[0]
    log = tmp_path / "make.log"
    # What a newcomer has: no virtual environment that is active, no settings.
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV" and not k.startswith(("VIDTR_", "MAKE"))}
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run", f"PORT={port}"],
            cwd=clone,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 1000
        while b"vidtr is up" not in log.read_bytes():
            assert make.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(1)
        with httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
            assert upload(client, clip).status_code == 200
    finally:
        # Ctrl-C in a terminal reaches the whole foreground group.
        os.killpg(make.pid, signal.SIGINT)
        make.wait(60)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://localhost:{port}/health/live")
