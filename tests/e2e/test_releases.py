"""During an update processes of two releases share one Redis, and workers serve different versions of a model."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.local.process import ServerProcess, free_ports
from service.local.redis import LocalRedis
from testing.videos import write_video
from tests.fixtures.servers import REPOSITORY_ROOT
from tests.fixtures.tiny_models import write_repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The last commit before clips waited by version and weights.
EARLIER = "4537b49af0fd"
REQUESTS = int(os.environ.get("VIDTR_RELEASE_REQUESTS", "24"))
AT_ONCE = 6
STARTED_S = 90.0


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the code of each release lies."""
    packed = subprocess.run(["git", "archive", EARLIER, "service"], cwd=REPOSITORY_ROOT, capture_output=True)
    if packed.returncode:
        pytest.skip(f"the history of this clone does not reach back to {EARLIER}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as files:
        files.extractall(folder, filter="data")
    return {"earlier": folder, "this": REPOSITORY_ROOT}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two versions of a model, whose weights differ."""
    every = "version_policy { all {} }"
    return write_repository(tmp_path_factory.mktemp("both"), versions=("1", "2"), extra=every)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 60, fps=30, size=(64, 48)).read_bytes()


@dataclass(frozen=True)
class Part:
    """A process: its release, and what it serves where it is a worker."""

    release: str
    repository: Path | None = None


@contextlib.contextmanager
def installed(
    directory: Path, releases: dict[str, Path], apis: Sequence[str], workers: Sequence[Part]
) -> Iterator[list[int]]:
    """API processes and workers over one Redis; yields the ports."""
    ports = free_ports(len(apis))
    with LocalRedis(directory / "redis", persist=False) as redis, contextlib.ExitStack() as stack:
        processes = []
        for number, part in enumerate([*workers, *map(Part, apis)]):
            role = "worker" if part.repository else "api"
            log = directory / f"{role}-{number}-{part.release}.log"
            environment = {
                **os.environ,
                "PYTHONPATH": str(releases[part.release]),
                "VIDTR_REDIS_URL": redis.url,
                "VIDTR_REDIS_PREFIX": "releases",
                "VIDTR_DEFAULT_MODEL": "tiny",
                "VIDTR_MODEL_REPOSITORY": str(part.repository),
                "VIDTR_TORCH_THREADS": "1",
                "VIDTR_DECODE_WORKERS": "1",
                "VIDTR_PORT": str(ports[number - len(workers)]) if role == "api" else "0",
            }
            # Without -P the folder in which the tests run would come first.
            command = [sys.executable, "-P", "-m", "service.cli.main", role]
            process = ServerProcess(command, name=f"{role} {number}", log=log, environment=environment)
            process.start()
            stack.callback(process.stop, 25)
            processes.append((process, role, log))
        for process, role, log in processes:
            if role == "worker":
                process.wait_until(lambda log=log: "serving" in log.read_text(), STARTED_S)  # type: ignore[misc]
        for (process, _, _), port in zip(processes[len(workers) :], ports, strict=True):
            process.wait_until(lambda port=port: _ready(port), STARTED_S)  # type: ignore[misc]
        yield ports


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).is_success
    except httpx.TransportError:
        return False


def answers(ports: Sequence[int], body: bytes, versions: Sequence[str | None]) -> list[dict[str, Any]]:
    """Answers to `REQUESTS` uploads, spread over ports and versions; fails where one is not a result."""

    def one(number: int) -> dict[str, Any]:
        version = versions[number % len(versions)]
        url = f"http://127.0.0.1:{ports[number // len(versions) % len(ports)]}/v1/classify"
        answer = client.post(url, content=body, headers={"Content-Type": "video/mp4"}, params=_options(version))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert version in (None, found["model"]["version"])
        return found

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(REQUESTS)))


def _options(version: str | None) -> dict[str, str]:
    return {"windows": "2"} if version is None else {"windows": "2", "version": version}


def scores_by_version(found: Sequence[dict[str, Any]]) -> dict[str, set[tuple[float, ...]]]:
    """The different scores that each version gave."""
    scores: dict[str, set[tuple[float, ...]]] = {}
    for answer in found:
        in_order = sorted(answer["predictions"], key=lambda prediction: prediction["index"])
        values = tuple(round(prediction["score"], 4) for prediction in in_order)
        scores.setdefault(answer["model"]["version"], set()).add(values)
    return scores


@pytest.mark.parametrize("worker", ["earlier", "this"])
@pytest.mark.parametrize("api", ["earlier", "this"])
def test_an_api_and_a_worker_of_any_two_releases_answer_every_request_with_the_right_version(
    api: str, worker: str, releases: dict[str, Path], both: Path, body: bytes, tmp_path: Path
) -> None:
    with installed(tmp_path, releases, [api], [Part(worker, both)]) as ports:
        scores = scores_by_version(answers(ports, body, ["1", "2"]))
    assert {version: len(found) for version, found in scores.items()} == {"1": 1, "2": 1}
    assert scores["1"] != scores["2"], "the versions are too alike to tell which of them has answered"


def test_in_the_middle_of_an_update_every_request_is_answered(
    releases: dict[str, Path], both: Path, body: bytes, tmp_path: Path
) -> None:
    workers = [Part("earlier", both), Part("this", both)]
    with installed(tmp_path, releases, ["earlier", "this"], workers) as ports:
        scores = scores_by_version(answers(ports, body, ["1", "2", None]))
    assert {version: len(found) for version, found in scores.items()} == {"1": 1, "2": 1}


def test_while_one_worker_has_a_new_version_and_another_has_not_every_request_is_answered(
    releases: dict[str, Path], both: Path, body: bytes, tmp_path: Path
) -> None:
    first = write_repository(tmp_path / "first", versions=("1",))
    with installed(tmp_path, releases, ["this"], [Part("this", first), Part("this", both)]) as ports:
        scores = scores_by_version(answers(ports, body, [None, "1"]))
    assert {version: len(found) for version, found in scores.items()} == {"1": 1, "2": 1}
