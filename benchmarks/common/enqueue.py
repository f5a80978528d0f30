"""Clips into the queue as the API puts them there, and worker processes that score them: the service without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from service.contracts import DecodedVideo, JobRecord, JobRequest, JobResult, ModelSpec, SampledWindow, VideoInfo
from service.local.process import ServerProcess, free_ports
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from service.queue.result_bus import ResultBus
from service.settings import Settings

START_TIMEOUT_S = 600.0
STOP_GRACE_S = 20.0


def job_of(spec: ModelSpec) -> JobRecord:
    """A job of one clip, as the API would make it."""
    now = time.time()
    decoded = DecodedVideo(
        video=VideoInfo(
            duration_s=spec.span_s,
            width=spec.width,
            height=spec.height,
            fps=30.0,
            container="mp4",
            codec="h264",
            rotation=0,
            frames_decoded=spec.frames,
        ),
        coverage=1.0,
        windows=(SampledWindow(start_s=0.0, end_s=spec.span_s, times_s=(0.0,) * spec.frames),),
        crops=1,
        clip_shape=spec.clip_shape,
        decode_ms=0.0,
    )
    return JobRecord(
        id=uuid4().hex,
        request=JobRequest(),
        spec=spec,
        decoded=decoded,
        created_at=now,
        enqueued_at=now,
        deadline_at=now + 600,
        upload_ms=0.0,
    )


@dataclass(frozen=True)
class Timed:
    """One clip's way; seconds."""

    enqueue_s: float
    total_s: float
    result: JobResult


class Queue:
    """The API's side of the queue."""

    def __init__(self, redis_url: str, settings: Settings) -> None:
        keys, times = RedisKeys(settings.redis_prefix), settings.subset(JobTtlConfig)
        self.redis = connect(redis_url, name="bench")
        self._listening = connect(redis_url, name="bench-bus")
        self._store = JobStore(self.redis, keys, times)
        self._directory = ModelDirectory(self.redis, keys)
        self._bus = ResultBus(self._listening, keys, self._store)

    async def start(self, workers: Sequence[ServerProcess]) -> ModelSpec:
        """Wait for the workers, and listen for results; returns the model that they serve.

        Raises RuntimeError where a worker ends, TimeoutError where they do not come up.
        """
        await self._bus.start()
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                if any(worker.pid is None for worker in workers):
                    raise RuntimeError("a worker has ended")
                served = await self._directory.list()
                if served and len(await self._directory.workers()) == len(workers):
                    return served[0]
                await asyncio.sleep(0.1)

    async def classify(self, spec: ModelSpec, clip: memoryview) -> Timed:
        """Enqueue one clip as a job and wait for its result."""
        job = job_of(spec)
        began = time.perf_counter()
        unended = self._bus.completion(job.id)
        await self._store.accept(job, clips=clip, reply_to=self._bus.reply_to)
        enqueued = time.perf_counter()
        outcome = await self._bus.wait(job.id, 600, unended)
        assert outcome is not None
        assert outcome.result is not None, outcome.error
        return Timed(enqueued - began, time.perf_counter() - began, outcome.result)

    async def round(
        self,
        spec: ModelSpec,
        clips: np.ndarray,
        count: int,
        in_flight: int,
        each: Callable[[int], None] = lambda done: None,
    ) -> float:
        """Clips per second while `count` jobs of one clip go through, `in_flight` of them at any moment.

        `clips` `[N, T, H, W, 3]` are taken in turn; `each` is told how many are done.
        """
        views = [memoryview(np.ascontiguousarray(clip).tobytes()) for clip in clips]
        numbers = iter(range(count))
        done = 0

        async def client() -> None:
            nonlocal done
            for number in numbers:
                await self.classify(spec, views[number % len(views)])
                done += 1
                each(done)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(in_flight)))
        return count / (time.perf_counter() - began)

    async def close(self) -> None:
        """Close the connections."""
        await self._bus.close()
        await self._listening.aclose()
        await self.redis.aclose()


@dataclass(frozen=True)
class Broker:
    """A private Redis with worker processes, and our side of the queue."""

    queue: Queue
    spec: ModelSpec
    redis: LocalRedis
    workers: tuple[ServerProcess, ...]
    ports: tuple[int, ...]

    @property
    def parts(self) -> dict[str, list[int]]:
        """Process ids by part, for a `Meter`."""
        return {
            "redis": [self.redis.pid] if self.redis.pid else [],
            "worker": [worker.pid for worker in self.workers if worker.pid],
        }

    async def metric(self, name: str) -> float:
        """A counter or gauge summed over the workers, such as `vidtr_batch_clips_sum`, with or without labels."""
        pages = [await asyncio.to_thread(_page, port) for port in self.ports]
        pattern = re.compile(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", re.M)
        return sum(float(value) for page in pages for value in pattern.findall(page))

    def clips(self, count: int) -> np.ndarray:
        """Noise of the model's shape, `[count, T, H, W, 3]`."""
        return np.random.default_rng(0).integers(0, 256, (count, *self.spec.clip_shape), dtype=np.uint8)


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@contextlib.asynccontextmanager
async def broker(
    scratch: Path, command: Sequence[str], workers: int = 1, *, persist: bool = False, **changes: Any
) -> AsyncIterator[Broker]:
    """Start Redis and `workers` processes of `command` with settings from `changes`; stop them at the end."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(LocalRedis(scratch / "redis", persist=persist))
        ports = free_ports(workers)
        settings = Settings(_env_file=None, redis_url=redis.url, **{"log_level": "warning", **changes})
        running = []
        for number, port in enumerate(ports):
            own = settings.model_copy(update={"worker_metrics_port": port})
            environment = own.child_environment(scratch / f"secrets{number}")
            log = scratch / f"worker{number}.log"
            process = ServerProcess(list(command), name="a worker", log=log, environment=environment)
            process.start()
            stack.callback(process.stop, STOP_GRACE_S)
            running.append(process)
        queue = Queue(redis.url, settings)
        try:
            try:
                spec = await queue.start(running)
            except (RuntimeError, TimeoutError) as error:
                logs = "".join((scratch / f"worker{number}.log").read_text() for number in range(workers))
                raise RuntimeError(f"the workers do not come up; they say:\n{logs}") from error
            yield Broker(queue, spec, redis, tuple(running), tuple(ports))
        finally:
            await queue.close()
