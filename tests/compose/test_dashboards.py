"""Every panel of every dashboard, asked of a real Prometheus that scraped the real service under load."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.local.redis import LocalRedis
from service.local.triton_process import LocalTriton
from tests.compose.observed import load, observed, small_clip
from tests.compose.tools import ROOT, tool

pytestmark = pytest.mark.slow

# Triton's documentation, "Metrics", GPU metrics: no GPU is needed to know whether a panel names one that exists.
GPU_METRICS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "nv_gpu_power_usage"}


@pytest.fixture(scope="module")
def query(
    redis_server: LocalRedis, triton_server: LocalTriton, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    directory = tmp_path_factory.mktemp("prometheus")
    with observed(directory, tool("prometheus"), redis_server.url, triton_server, "untrained_tiny") as seen:
        load(seen.api, small_clip(directory), 8)
        time.sleep(2)
        yield seen.query


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
