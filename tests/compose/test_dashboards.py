"""Every panel of every dashboard, asked of a real Prometheus that scraped the real service under load."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from redis import Redis

from service.local.process import free_ports
from service.local.redis import LocalRedis
from service.local.triton import LocalTriton
from tests.compose.tools import ROOT, tool
from tests.videos import write_video

pytestmark = pytest.mark.slow

# Triton's documentation, "Metrics", GPU metrics: no GPU is needed to know whether a panel names one that exists.
GPU_METRICS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "nv_gpu_power_usage"}


def wait_for(what: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def load(api: str, directory: Path) -> None:
    clip = write_video(directory / "clip.mp4", 75, fps=25, size=(96, 64)).read_bytes()
    uploads = {"video/mp4": [clip, b"no video at all", clip[: len(clip) // 3]]}
    with httpx.Client(base_url=api, timeout=60) as client:
        seen = set()
        end = time.monotonic() + 8
        while time.monotonic() < end:
            for body in uploads["video/mp4"]:
                seen.add(client.post("/v1/classify", content=body, headers={"Content-Type": "video/mp4"}).status_code)
            seen.add(client.post("/v1/classify", content=clip, params={"model": "unknown"}).status_code)
    assert {200, 415, 422, 404} <= seen


@pytest.fixture(scope="module")
def query(
    redis_server: LocalRedis, triton_server: LocalTriton, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    directory = tmp_path_factory.mktemp("prometheus")
    budget = Redis.from_url(redis_server.url)
    budget.config_set("maxmemory", 2**30)
    prometheus = tool("prometheus")
    api, api_metrics, worker_metrics, port = free_ports(4)
    environment = {
        **os.environ,
        "VIDTR_PORT": str(api),
        "VIDTR_API_METRICS_PORT": str(api_metrics),
        "VIDTR_WORKER_METRICS_PORT": str(worker_metrics),
        "VIDTR_METRICS_SAMPLE_S": "1",
        "VIDTR_ENGINE": "triton",
        "VIDTR_DEFAULT_MODEL": "untrained_tiny",
        "VIDTR_TRITON_URL": triton_server.addresses.grpc,
        "VIDTR_REDIS_URL": redis_server.url,
        "VIDTR_REDIS_PREFIX": "dashboards",
    }
    targets = {
        "vidtr-api": f"127.0.0.1:{api_metrics}",
        "vidtr-worker": f"127.0.0.1:{worker_metrics}",
        "triton": triton_server.addresses.metrics,
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
    log = (directory / "log").open("wb")
    started = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands]
    base = f"http://127.0.0.1:{port}"

    def ask(expression: str) -> list[dict[str, Any]]:
        reply = httpx.get(f"{base}/api/v1/query", params={"query": expression}).json()
        assert reply["status"] == "success", reply
        return reply["data"]["result"]

    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{api}/health/ready") and answers(f"{base}/-/ready"))
        load(f"http://127.0.0.1:{api}", directory)
        time.sleep(2)
        yield ask
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)
        log.close()
        budget.config_set("maxmemory", 0)
        budget.close()


def expressions() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                found.append((f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]))
    return found


ALL = expressions()
ON_GPU = [(name, text) for name, text in ALL if "nv_gpu" in text]


@pytest.mark.parametrize(("name", "expression"), [pair for pair in ALL if pair not in ON_GPU])
def test_a_panel_shows_data(query: Callable[[str], list[dict[str, Any]]], name: str, expression: str) -> None:
    result = query(expression.replace("$__rate_interval", "1m"))
    assert any(sample["value"][1] != "NaN" for sample in result), f"{name}: {expression}"


@pytest.mark.parametrize(("name", "expression"), ON_GPU)
def test_a_gpu_panel_names_metrics_that_triton_documents(name: str, expression: str) -> None:
    assert any(metric in expression for metric in GPU_METRICS), name


def test_the_metrics_of_an_own_port_are_off_the_public_one(query: Callable[[str], list[dict[str, Any]]]) -> None:
    assert query('sum(vidtr_http_requests_total{route="/metrics"}) or vector(0)')[0]["value"][1] == "0"
    assert {s["metric"]["job"] for s in query("up == 1")} == {"vidtr-api", "vidtr-worker", "triton"}
