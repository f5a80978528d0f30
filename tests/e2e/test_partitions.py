"""The whole program with four partitions: two API processes and two workers over one Redis."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from service.queue.partitions import number_of
from testing.program import PARTITIONS, Program, Size, upload

COUNT = 4
ASYNC = {"Prefer": "respond-async"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("partitions"),
        size=Size(2, 2),
        settings={PARTITIONS: str(COUNT), "VIDTR_QUOTA_REQUESTS": "1000/minute", "VIDTR_RESULT_CACHE_S": "0"},
    )
    with program:
        yield program


def accepted(client: httpx.Client, clip: Path, **headers: str) -> str:
    """The id of a job that was promised."""
    with clip.open("rb") as file:
        answer = client.post("/v1/classify", files={"file": ("a.mp4", file)}, headers={**ASYNC, **headers})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(client: httpx.Client, job_id: str) -> str:
    end = time.monotonic() + 60
    while (state := client.get(f"/v1/jobs/{job_id}").json()["status"]) in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.05)
    return str(state)


def test_jobs_of_all_partitions_succeed_and_are_listed_newest_first(client: httpx.Client, clip: Path) -> None:
    jobs = [accepted(client, clip) for _ in range(3 * COUNT)]
    assert {number_of(job, COUNT) for job in jobs} == set(range(COUNT))
    assert [ended(client, job) for job in jobs] == len(jobs) * ["succeeded"]
    listed: list[str] = []
    cursor: dict[str, str] = {}
    while len(listed) < len(jobs):
        page = client.get("/v1/jobs", params={"limit": 5, **cursor}).json()
        listed += [job["id"] for job in page["jobs"]]
        cursor = {"cursor": page["next_cursor"]}
    assert listed[: len(jobs)] == jobs[::-1]


def test_a_caller_who_waits_gets_the_result_whatever_the_partition(client: httpx.Client, clip: Path) -> None:
    for _ in range(COUNT):
        answer = upload(client, clip)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"]


def test_two_processes_make_one_job_of_an_idempotency_key(program: Program, clip: Path) -> None:
    def send(turn: int) -> str:
        # Connections are spread over both API processes.
        with program.client() as own:
            for _ in range(100):
                with clip.open("rb") as file:
                    headers = {**ASYNC, "Idempotency-Key": f"key-{turn % 3}"}
                    answer = own.post("/v1/classify", files={"file": ("a.mp4", file)}, headers=headers)
                if answer.status_code == 202:
                    return f"{turn % 3} {answer.json()['id']}"
                assert answer.json()["code"] == "idempotency_in_progress"
                time.sleep(0.1)
        raise AssertionError("no answer")

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(12)))) == 3


def test_events_of_a_job_end_with_its_state_and_a_deleted_job_is_gone(client: httpx.Client, clip: Path) -> None:
    for _ in range(COUNT):
        job = accepted(client, clip)
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            events = [line for line in stream.iter_lines() if line.startswith("event:")]
        assert events[-1] == "event: succeeded"
        assert client.delete(f"/v1/jobs/{job}").status_code == 204
        assert client.get(f"/v1/jobs/{job}").json()["code"] == "job_deleted"


def test_every_key_belongs_to_a_partition(program: Program, client: httpx.Client, clip: Path) -> None:
    upload(client, clip)
    prefixes = tuple(f"{keys.prefix}:" for keys in program.keys)
    with redis.Redis.from_url(program.redis_url) as server:
        others = {key.decode() for key in server.scan_iter("*") if not key.decode().startswith(prefixes)}
    assert others == {"{vidtr}:partitions"}


def test_a_process_with_another_number_of_partitions_does_not_start(program: Program, tmp_path: Path) -> None:
    for role in ("api", "worker"):
        done = subprocess.run(
            [sys.executable, "-m", "service.cli.main", role],
            env={**os.environ, "VIDTR_REDIS_URL": program.redis_url, PARTITIONS: "5"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        assert "partitions_changed" in done.stderr
        assert "has 4 partitions, and `queue_partitions` is 5" in " ".join(done.stderr.split())


def test_the_doctor_and_the_list_of_dead_letters_look_into_all_partitions(program: Program) -> None:
    environment = {**os.environ, "VIDTR_REDIS_URL": program.redis_url, PARTITIONS: str(COUNT)}
    said = [
        subprocess.run(
            [sys.executable, "-m", "service.cli.main", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        ).stdout
        for command in (("doctor",), ("dead", "list"))
    ]
    assert "queue partitions: 4 on 1 servers, 4 on one at most" in said[0]
    assert "no dead letters" in said[1]
