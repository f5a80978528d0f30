"""A service of real processes for benchmarks of the queue, and an HTTP client that says when the first byte came.

In the stack `fixed` the network is replaced by one that takes the same time for every batch, so that the capacity is
known and the figures are those of the queue; the stack `real` scores with the committed model.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
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
from testing.videos import write_video

BATCH = 8
SERVICE_S = 0.8
DEADLINE_S = 12
MEMORY_BYTES = 96 << 20


@dataclass
class Stack:
    """A running service."""

    port: int
    redis: Redis
    clip: bytes
    long: bytes


@contextlib.asynccontextmanager
async def running(kind: str, decode_workers: int = 1) -> AsyncIterator[Stack]:
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
            decode_workers=decode_workers,
            max_queue_bytes=MEMORY_BYTES // 2,
        )
        roles = {
            "worker": fixed.command(SERVICE_S, fixed.fixed_spec(BATCH, 8, 64, Settings(_env_file=None).default_model))
            if kind == "fixed"
            else [sys.executable, "-m", "service.cli.main", "worker"],
            "api": [sys.executable, "-m", "service.cli.main", "api"],
        }
        for role, command in roles.items():
            environment = settings.child_environment(directory / f"{role}-secrets")
            process = ServerProcess(command, name=role, log=directory / role, environment=environment)
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


def percentile(values: list[float], share: float) -> float:
    """NaN where there are none."""
    return float(np.percentile(values, share)) if values else float("nan")
