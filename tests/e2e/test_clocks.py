"""Processes whose wall clocks disagree, as those of hosts may: nothing that the service decides depends on them."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contracts import JobState
from service.local.process import ServerProcess, free_ports
from service.local.redis import LocalRedis
from service.settings import Settings
from testing.program import upload
from tests.fixtures.servers import MODEL_REPOSITORY

SKEWED = Path(__file__).parents[1] / "fixtures" / "skewed"
START_TIMEOUT_S = 90
# Less than any skew, and more than a test takes.
CLOCK_TOLERANCE_S = 50.0


@contextlib.contextmanager
def apart(directory: Path, redis: LocalRedis, api_s: float, worker_s: float) -> Iterator[httpx.Client]:
    """An API and a worker whose clocks are wrong by so many seconds; the clock of Redis is right."""
    [port] = free_ports(1)

    def process(role: str, skew_s: float) -> ServerProcess:
        settings: dict[str, Any] = {
            "redis_url": redis.url,
            "redis_prefix": f"clocks{port}",
            "model_repository": MODEL_REPOSITORY,
            "default_model": next(MODEL_REPOSITORY.iterdir()).name,
            "port": port,
            "decode_workers": 1,
            "torch_threads": 1,
        }
        environment = Settings(_env_file=None, **settings).child_environment(directory / f"{role}-secrets")
        skew = {"PYTHONPATH": str(SKEWED), "TEST_CLOCK_SKEW_S": str(skew_s)}
        return ServerProcess(
            [sys.executable, "-m", "service.cli.main", role],
            name=f"the {role}",
            log=directory / f"{role}.log",
            environment={**os.environ, **environment, **skew},
        )

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return client.get("/health/ready").is_success
        return False

    api, worker = process("api", api_s), process("worker", worker_s)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            worker.start()
            api.start()
            api.wait_until(ready, START_TIMEOUT_S)
            yield client
        finally:
            api.stop(20)
            worker.stop(20)


@pytest.mark.parametrize(
    ("api_s", "worker_s"),
    [(60.0, -60.0), (-60.0, 60.0), (3600.0, -3600.0)],
    ids=lambda skew_s: f"{skew_s:+.0f}s",
)
def test_jobs_succeed_and_take_no_negative_time_whatever_the_clocks_say(
    tmp_path: Path, redis_server: LocalRedis, clip: Path, api_s: float, worker_s: float
) -> None:
    with apart(tmp_path, redis_server, api_s, worker_s) as client:
        answers = [upload(client, clip) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5, [answer.text for answer in answers]
        for answer in answers:
            timings = answer.json()["timings_ms"]
            assert min(timings.values()) >= 0
            assert timings["total"] >= timings["inference"]
            job = client.get(f"/v1/jobs/{answer.json()['id']}").json()
            assert job["status"] == JobState.SUCCEEDED
            assert abs(job["created_at"] - time.time()) < CLOCK_TOLERANCE_S
        listed = [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]
        assert listed == [answer.json()["id"] for answer in reversed(answers)]
