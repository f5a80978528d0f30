"""A worker's own health: what restarts it, and what does not."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.local.process import free_ports
from service.local.redis import LocalRedis


@pytest.fixture
def worker(redis_server: LocalRedis, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A worker whose Triton is not there: its address of metrics and its log."""
    metrics, triton = free_ports(2)
    environment = {
        "VIDTR_ENGINE": "triton",
        "VIDTR_TRITON_URL": f"127.0.0.1:{triton}",
        "VIDTR_REDIS_URL": redis_server.url,
        "VIDTR_REDIS_PREFIX": "worker-health",
        "VIDTR_WORKER_METRICS_PORT": str(metrics),
        "VIDTR_WORKER_HEARTBEAT_S": "0.1",
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli.main", "worker"], env={**os.environ, **environment}, stderr=file
        )
    yield f"http://127.0.0.1:{metrics}", log
    process.terminate()
    assert process.wait(30) == 0


def test_a_worker_without_its_triton_is_no_reason_to_restart_it(worker: tuple[str, Path]) -> None:
    url, log = worker
    end = time.monotonic() + 60
    while log.read_text().count("backend_unavailable") < 5:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    answer = httpx.get(f"{url}/health/live")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert "vidtr_build_info" in httpx.get(f"{url}/metrics").text
