"""Jobs of random clips, workers, and backends that can be told to fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service.contracts import ClipScores, JobModel, JobRecord, JobStatus, ModelSpec
from service.errors import BackendUnavailable
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.queue.clip_stream import ClipStream
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from service.queue.result_bus import ResultBus
from service.worker.batch import clip_scores
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog
from service.worker.worker import Worker
from testing.factories import decoded, record
from tests.fixtures.tiny_models import CLIP_SHAPE, write_repository
from tests.integration.conftest import LETTERS, TIMES

CONFIG = WorkerConfig(
    worker_block_ms=50,
    worker_lease_s=0.4,
    worker_max_deliveries=3,
    worker_heartbeat_s=0.1,
    worker_interactive_weight=2,
    worker_bulk_batch_ms=0,
    worker_batch_delay_ms=0,
    worker_batches_in_flight=1,
    breaker_failures=3,
    breaker_open_s=0.1,
)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[TorchScriptBackend]:
    backend = TorchScriptBackend(TorchScriptConfig(write_repository(tmp_path), threads=1))
    await backend.start()
    yield backend
    await backend.close()


class Rig:
    """Jobs of random clips in Redis, and workers over the same backend."""

    def __init__(self, redis: Redis, keys: RedisKeys, store: JobStore, backend: TorchScriptBackend) -> None:
        self.redis = redis
        self.keys = keys
        self.store = store
        self.backend = backend
        self.directory = ModelDirectory(redis, keys)
        self.dead = DeadLetters(redis, keys, TIMES, LETTERS)
        self.bus = ResultBus(redis, keys, store, poll_s=0.02)
        self.now = 0.0
        self.watchdog = Watchdog(60, lambda: self.now)

    async def spec(self) -> ModelSpec:
        [spec] = await self.backend.models()
        return spec

    async def submit(
        self, clips: Clips, *, spec: JobModel | None = None, more_coming: bool = False, **changes: Any
    ) -> JobRecord:
        spec = spec or await self.spec()
        job = record(spec=spec, decoded=decoded(windows=len(clips), clip_shape=CLIP_SHAPE), **changes)
        await self.store.put_payloads(job.id, memoryview(clips.tobytes()), clips[0].nbytes)
        await self.store.accept(job, more_coming=more_coming)
        return job

    def worker(self, name: str = "one", backend: Backend | None = None, config: WorkerConfig = CONFIG) -> Worker:
        stream = ClipStream(self.redis, self.keys, name)
        completion = Completion(self.store, stream, self.dead, self.directory.clock)
        source = Source(stream, self.directory, completion, config.worker_lease_s)
        return Worker(config, backend or self.backend, [source], self.watchdog)

    async def taken_by(self, name: str, job: JobRecord) -> ClipStream:
        """The stream as a consumer sees it that holds the entries of the job, and does no more about them."""
        stream = ClipStream(self.redis, self.keys, name)
        await stream.join([job.spec.name])
        await stream.read([job.spec.name], 8, 10)
        return stream

    async def scores_of(self, clips: Clips) -> list[ClipScores]:
        spec = await self.spec()
        outputs = await self.backend.infer(spec.name, spec.version, clips)
        return [clip_scores(outputs, row, 0.0, 0.0) for row in range(len(clips))]

    @contextlib.asynccontextmanager
    async def working(self, backend: Backend | None = None, config: WorkerConfig = CONFIG) -> AsyncIterator[Worker]:
        worker = self.worker(backend=backend, config=config)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.stop()
        await running

    async def ended(self, job: JobRecord) -> JobStatus:
        assert await self.bus.wait(job.id, 20) is not None
        return await self.store.status(job.id)


class Relay:
    """A backend in front of another one, for tests to bend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""

    async def models(self) -> list[ModelSpec]:
        return await self.backend.models()

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        return await self.backend.infer(model, version, clips)


class Other(Relay):
    """Serves the network as another version or with other weights, as far as its name says."""

    def __init__(self, backend: Backend, **changes: str) -> None:
        super().__init__(backend)
        self.changes = changes
        self.clips = 0

    async def models(self) -> list[ModelSpec]:
        return [spec.model_copy(update=self.changes) for spec in await self.backend.models()]

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        [served], [own] = await self.models(), await self.backend.models()
        assert (model, version) == (served.name, served.version)
        self.clips += len(clips)
        return await self.backend.infer(own.name, own.version, clips, timeout_s=timeout_s)


class Counting(Relay):
    """Remembers the sizes of batches."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.seen: list[int] = []

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        self.seen.append(len(clips))
        return await super().infer(model, version, clips)


class Absent(Relay):
    """Unavailable until told otherwise."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.asked = asyncio.Event()
        self.calls = 0
        self.back = False

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        self.asked.set()
        self.calls += 1
        if not self.back:
            detail = "gone for lunch"
            raise BackendUnavailable(detail)
        return await super().infer(model, version, clips)
