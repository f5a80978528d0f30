"""A real Prometheus that scrapes the real service, processes of one machine, under load with injected errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis import Redis

from service.local.process import free_ports
from service.local.triton_process import LocalTriton
from testing.videos import write_video


def wait_for(what: Callable[[], bool], seconds: float = 90) -> None:
    """Until `what` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether a server is there and content."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Observed:
    """Addresses of the API and of Prometheus."""

    api: str
    prometheus: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus says now."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """What Prometheus says of a stretch of time, in Unix seconds."""
        return self._ask("query_range", query=expression, start=start, end=end, step=step_s)

    def _ask(self, what: str, **parameters: str | float) -> list[dict[str, Any]]:
        reply = httpx.get(f"{self.prometheus}/api/v1/{what}", params=parameters).json()
        assert reply["status"] == "success", reply
        result: list[dict[str, Any]] = reply["data"]["result"]
        return result


def load(api: str, clip: bytes, seconds: float) -> None:
    """Good uploads, and in turn bytes that are no video, half a video and a model that is not there."""
    with httpx.Client(base_url=api, timeout=60) as client:
        seen = set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for body in (clip, b"no video at all", clip[: len(clip) // 3]):
                seen.add(client.post("/v1/classify", content=body, headers={"Content-Type": "video/mp4"}).status_code)
            seen.add(client.post("/v1/classify", content=clip, params={"model": "unknown"}).status_code)
    assert {200, 415, 422, 404} <= seen


def load_of_many(api: str, clip: bytes, callers: int, seconds: float) -> None:
    """`load` from several callers at a time."""
    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(load, api, clip, seconds) for _ in range(callers)]:
            done.result()


def small_clip(directory: Path) -> bytes:
    """A video of three seconds."""
    return write_video(directory / "clip.mp4", 75, fps=25, size=(96, 64)).read_bytes()


@contextmanager
def observed(
    directory: Path, prometheus: str, redis_url: str, triton: LocalTriton, default_model: str
) -> Iterator[Observed]:
    """API, worker and Prometheus over the given servers. `prometheus` is the program's path."""
    with Redis.from_url(redis_url) as budget:
        budget.config_set("maxmemory", 2**30)
    api, api_metrics, worker_metrics, port = free_ports(4)
    environment = {
        **os.environ,
        "VIDTR_PORT": str(api),
        "VIDTR_API_METRICS_PORT": str(api_metrics),
        "VIDTR_WORKER_METRICS_PORT": str(worker_metrics),
        "VIDTR_METRICS_SAMPLE_S": "1",
        "VIDTR_ENGINE": "triton",
        "VIDTR_DEFAULT_MODEL": default_model,
        "VIDTR_TRITON_URL": triton.addresses.grpc,
        "VIDTR_REDIS_URL": redis_url,
        "VIDTR_REDIS_PREFIX": "dashboards",
    }
    targets = {
        "vidtr-api": f"127.0.0.1:{api_metrics}",
        "vidtr-worker": f"127.0.0.1:{worker_metrics}",
        "triton": triton.addresses.metrics,
    }
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": k, "static_configs": [{"targets": [v]}]} for k, v in targets.items()],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    vidtr = [sys.executable, "-m", "service.cli.main"]
    commands = [
        [*vidtr, "worker"],
        [*vidtr, "api"],
        [
            prometheus,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
    ]
    seen = Observed(f"http://127.0.0.1:{api}", f"http://127.0.0.1:{port}")
    with (directory / "log").open("wb") as log:
        started = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands]
        try:
            wait_for(lambda: answers(f"{seen.api}/health/ready") and answers(f"{seen.prometheus}/-/ready"))
            yield seen
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
            with Redis.from_url(redis_url) as budget:
                budget.config_set("maxmemory", 0)
