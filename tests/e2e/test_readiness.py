"""What readiness says of each dependency."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import redis

from service.contracts import WorkerStatus
from service.queue.connection import connect
from service.queue.model_directory import ModelDirectory
from testing.program import Program


def until(check: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def ready(client: httpx.Client) -> tuple[int, dict[str, str]]:
    response = client.get("/health/ready")
    return response.status_code, response.json()["checks"]


@asynccontextmanager
async def directories(program: Program) -> AsyncIterator[list[ModelDirectory]]:
    """Where workers say what they serve, in each partition."""
    client = connect(program.redis_url, name="tests")
    yield [ModelDirectory(client, keys) for keys in program.keys]
    await client.aclose()


async def announce(program: Program, statuses: Sequence[WorkerStatus]) -> None:
    """Say of workers what they would say of themselves."""
    async with directories(program) as everywhere:
        for directory in everywhere:
            for status in statuses:
                await directory.announce([], status, 5.0)


async def withdraw(program: Program, workers: Sequence[str]) -> None:
    """Say of workers what they say when they stop."""
    async with directories(program) as everywhere:
        for directory in everywhere:
            for worker in workers:
                await directory.withdraw(worker)


def test_an_engine_that_is_away_makes_the_api_not_ready_and_keeps_it_alive(
    program: Program, client: httpx.Client
) -> None:
    keys = program.keys[0]
    with redis.Redis.from_url(program.redis_url) as server:
        names = [keys.worker(name.decode()) for name in server.zrange(keys.workers, 0, -1)]
        known = [WorkerStatus.model_validate_json(server.get(name)) for name in names]
        away = [one.model_copy(update={"breaker": "open", "retry_in_s": 1.0}) for one in known]

        def seen() -> bool:
            # The workers themselves say that all is well with every heartbeat.
            asyncio.run(announce(program, away))
            status, checks = ready(client)
            return status == 503 and "does not respond" in checks["backend"] and checks["redis"] == "ok"

        until(seen)
        asyncio.run(announce(program, away))
        of_the_pod = client.get("/health/ready", params={"check": ["redis", "process"]})
        assert of_the_pod.status_code == 200
        assert "does not respond" in of_the_pod.json()["checks"]["backend"]
        alone = client.get("/health/ready", params={"check": "process"})
        assert (alone.status_code, alone.json()["checks"]["backend"]) == (200, "unknown")
        assert client.get("/health/live").status_code == 200
    until(lambda: ready(client)[0] == 200)


def test_a_model_whose_last_worker_has_left_makes_the_api_not_ready_while_its_announcement_lasts(
    program: Program, client: httpx.Client
) -> None:
    workers = [program.process("worker"), *program.others("worker")]
    with redis.Redis.from_url(program.redis_url) as server:
        names = [name.decode() for name in server.zrange(program.keys[0].workers, 0, -1)]
        assert len(names) == len(workers)

        def left() -> bool:
            # What they say at their end, and nothing after it.
            asyncio.run(withdraw(program, names))
            return ready(client)[0] == 503

        for worker in workers:
            worker.suspend()
        try:
            until(left)
            status, checks = ready(client)
            known = [model["name"] for model in client.get("/v1/models").json()["models"]]
        finally:
            for worker in workers:
                worker.resume()
    assert (status, checks["model"]) == (503, "No worker serves camera_motion.")
    assert known == ["camera_motion"]
    until(lambda: ready(client)[0] == 200)


def test_a_redis_that_takes_no_writes_makes_the_api_not_ready(program: Program, client: httpx.Client) -> None:
    with redis.Redis.from_url(program.redis_url) as server:
        server.config_set("min-replicas-to-write", 1)
        try:
            status, checks = ready(client)
        finally:
            server.config_set("min-replicas-to-write", 0)
    assert (status, checks["redis"]) == (
        503,
        "Redis takes no writes now: the server has fewer replicas than it requires. Try again later.",
    )
    until(lambda: ready(client)[0] == 200)


def test_a_check_that_there_is_not_is_refused(client: httpx.Client) -> None:
    response = client.get("/health/ready", params={"check": "disk"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")


def test_the_addresses_to_open_are_said_each_in_one_line(program: Program) -> None:
    said = program.log.read_text()
    assert re.search(r"^vidtr is up at (http://\S+) \(API documentation at \1/docs\)$", said, re.M)
    assert re.search(r"^try: curl -F file=@clip\.mp4 http://\S+/v1/classify$", said, re.M)
