"""The service at three times its capacity, and a long job beside short ones: what is answered, refused, and how fast.

Real API and worker processes over a real Redis with a memory budget. In the stack `fixed` the network is replaced by
one that takes the same time for every batch, so that the capacity is known and the figures are those of the queue; the
stack `real` scores with the committed model. The capacity is measured in the same run, by a closed loop.

    python -m benchmarks.overload [--stacks fixed,real] [--seconds 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from redis.asyncio import Redis

from benchmarks.common import fixed
from service.local.process import ServerProcess, free_ports
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.settings import Settings
from tests.videos import write_video

BATCH = 8
SERVICE_S = 0.8
DEADLINE_S = 12
MEMORY_BYTES = 96 << 20
TIMES = 3
CAPACITY_S = 20.0
SETTLE_S = 5.0


@dataclass
class Stack:
    """A running service."""

    port: int
    redis: Redis
    clip: bytes
    long: bytes


@contextlib.asynccontextmanager
async def running(kind: str) -> AsyncIterator[Stack]:
    """API, worker and Redis, ready."""
    with tempfile.TemporaryDirectory(prefix="overload-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        server = stack.enter_context(LocalRedis(directory / "redis", persist=False))
        redis = connect(server.url, name="overload")
        await redis.config_set("maxmemory", MEMORY_BYTES)
        [port] = free_ports(1)
        settings = Settings(
            _env_file=None,
            redis_url=server.url,
            port=port,
            log_level="warning",
            torch_threads=1,
            decode_workers=1,
            max_queue_bytes=MEMORY_BYTES // 2,
        )
        roles = {
            "worker": fixed.command(SERVICE_S, fixed.fixed_spec(BATCH, 8, 64, Settings(_env_file=None).default_model))
            if kind == "fixed"
            else [sys.executable, "-m", "service.cli.main", "worker"],
            "api": [sys.executable, "-m", "service.cli.main", "api"],
        }
        for role, command in roles.items():
            process = ServerProcess(command, name=role, log=directory / role, environment=settings.child_environment())
            process.start()
            stack.callback(process.stop, 20.0)
        clip = write_video(directory / "clip.mp4", 12, fps=25, size=(64, 64)).read_bytes()
        long = write_video(directory / "long.mp4", 1700, fps=25, size=(64, 64)).read_bytes()
        while (await asked(port, "GET", "/health/ready")).status != 200:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.2)
        try:
            yield Stack(port, redis, clip, long)
        finally:
            await redis.aclose()


@dataclass
class Answer:
    """Of one request: when it was sent, when its first byte was there, and when all of it."""

    started: float
    first_s: float
    total_s: float
    status: int
    retry_after_s: float | None = None
    body: bytes = b""


async def asked(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request on a connection of its own; status 0 where there is no answer."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    lines = [f"{method} {path} HTTP/1.1", "Host: overload", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        first_s = loop.time() - started
        content = await reader.read()
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return Answer(started, loop.time() - started, loop.time() - started, 0)
    found = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
    retry_after = found.get("retry-after")
    return Answer(
        started,
        first_s,
        loop.time() - started,
        int(head.split()[1]),
        None if retry_after is None else float(retry_after),
        content,
    )


async def classify(stack: Stack) -> Answer:
    """Upload the short clip and wait."""
    path = "/v1/classify?windows=1&attention=none"
    return await asked(stack.port, "POST", path, stack.clip, Content_Type="video/mp4", X_Deadline_S=str(DEADLINE_S))


async def capacity(stack: Stack, seconds: float) -> float:
    """Answers per second of a closed loop that keeps two batches waiting."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SETTLE_S + seconds
    done: list[float] = []

    async def client() -> None:
        while loop.time() < end:
            if (await classify(stack)).status == 200:
                done.append(loop.time())

    await asyncio.gather(*(client() for _ in range(3 * BATCH)))
    return sum(end - seconds <= at < end for at in done) / seconds


async def overload(stack: Stack, rate: float, seconds: float) -> tuple[list[Answer], int]:
    """An open loop at `rate` requests per second; all answers, and the most memory that Redis used meanwhile."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            memory = await stack.redis.info("memory")
            most = max(most, int(memory["used_memory"]))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    requests = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        requests.append(asyncio.create_task(classify(stack)))
    answers = list(await asyncio.gather(*requests))
    watching.cancel()
    return answers, most


async def singles(stack: Stack, count: int = 20) -> list[float]:
    """Seconds that short clips take, one sent every quarter of a second."""
    requests = []
    for _ in range(count):
        requests.append(asyncio.create_task(classify(stack)))
        await asyncio.sleep(0.25)
    return [answer.total_s for answer in await asyncio.gather(*requests)]


async def mixed(stack: Stack) -> dict[str, float]:
    """Short clips alone, and beside a job of 200 clips."""
    alone = await singles(stack)
    headers = {"Content_Type": "video/mp4", "Prefer": "respond-async"}
    bulk = await asked(stack.port, "POST", "/v1/classify?windows=200&attention=none", stack.long, **headers)
    assert bulk.status == 202, bulk
    together = await singles(stack)
    job = json.loads((await asked(stack.port, "GET", f"/v1/jobs/{json.loads(bulk.body)['id']}")).body)
    return {
        "alone_p95_s": percentile(alone, 95),
        "together_p95_s": percentile(together, 95),
        "bulk_clips_left": job["clips_total"] - job["clips_done"],
    }


def percentile(values: list[float], share: float) -> float:
    """NaN where there are none."""
    return float(np.percentile(values, share)) if values else float("nan")


async def measure(kind: str, seconds: float) -> dict[str, object]:
    """All figures of one stack."""
    async with running(kind) as stack:
        peak = await capacity(stack, CAPACITY_S)
        began = asyncio.get_running_loop().time()
        answers, memory = await overload(stack, TIMES * peak, seconds)
        good = [a for a in answers if a.status == 200 and a.total_s <= DEADLINE_S]
        # The queue fills first; what is answered after the last request was sent is not of this load.
        counted = [a for a in good if SETTLE_S <= a.started + a.total_s - began < seconds]
        goodput = len(counted) / (seconds - SETTLE_S)
        refused = [a for a in answers if a.status == 503]
        waits = [a.retry_after_s for a in refused if a.retry_after_s is not None]
        figures: dict[str, object] = {
            "capacity_per_s": round(peak, 2),
            "offered_per_s": round(TIMES * peak, 2),
            "goodput_per_s": round(goodput, 2),
            "goodput_of_capacity": round(goodput / peak, 3),
            "answered": len(good),
            "refused": len(refused),
            "refused_p50_ms": round(1000 * percentile([a.first_s for a in refused], 50), 1),
            "refused_p99_ms": round(1000 * percentile([a.first_s for a in refused], 99), 1),
            "retry_after_s": [min(waits), statistics.median(waits), max(waits)] if waits else [],
            "answer_p99_s": round(percentile([a.total_s for a in good], 99), 2),
            "past_their_deadline": sum(
                a.status == 504 or (a.status == 200 and a.total_s > DEADLINE_S) for a in answers
            ),
            "other_statuses": sorted({a.status for a in answers} - {200, 503, 504}),
            "redis_memory_most": memory,
            "redis_memory_budget": MEMORY_BYTES,
        }
    if kind == "fixed":
        async with running(kind) as stack:
            figures["bulk"] = await mixed(stack)
            figures["bulk_bound_s"] = 1.2 * (figures["bulk"]["alone_p95_s"] + SERVICE_S)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", default="fixed,real")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/overload.json"))
    arguments = parser.parse_args()
    found = {kind: asyncio.run(measure(kind, arguments.seconds)) for kind in arguments.stacks.split(",")}
    for name in next(iter(found.values())):
        print(f"{name:24}" + "".join(f"{figures.get(name, '')!s:>48}" for figures in found.values()))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"at": time.time(), **found}, indent=2))


if __name__ == "__main__":
    main()
