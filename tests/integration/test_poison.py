"""A clip that kills whoever scores it, among seven that do not, on real worker processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from service.contracts import JobRecord, JobState
from service.inference.backend import Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.local.process import ServerProcess
from service.local.redis import LocalRedis
from service.queue.dead_letters import DeadLetterConfig
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.partitions import QueueAddress
from service.queue.redis_keys import RedisKeys
from service.settings import Settings
from service.worker.config import WorkerConfig
from service.worker.run import run_worker
from service.worker.watchdog import Watchdog
from testing.factories import decoded, record
from tests.fixtures.tiny_models import CLIP_SHAPE, random_clips, write_repository

Submit = Callable[[np.ndarray], Awaitable[JobRecord]]
BATCH = 8
DELIVERIES = 3
POISON = 77
PATIENCE_S = 90
UNFINISHED = (JobState.QUEUED, JobState.RUNNING)

pytestmark = pytest.mark.slow


class Mortal(TorchScriptBackend):
    """An engine that a clip can crash: its process is gone at once, as after a fault in native code."""

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        with Path(os.environ["BATCHES"]).open("a") as batches:  # noqa: ASYNC230 - its process is about to die
            batches.write(f"{len(clips)}\n")
        if (clips[:, 0, 0, 0, 0] == POISON).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().infer(model, version, clips, timeout_s=timeout_s)


def work(engine: type[TorchScriptBackend]) -> None:
    """A worker process, as `vidtr worker` is one."""
    settings = Settings()
    config, times = settings.subset(WorkerConfig), settings.subset(JobTtlConfig)
    backend = engine(TorchScriptConfig(settings.model_repository, threads=1))
    address, limits = settings.subset(QueueAddress), settings.subset(DeadLetterConfig)
    asyncio.run(run_worker(backend, config, address, times, limits, Watchdog(60)))


class Processes:
    """Worker processes of one installation, one at a time."""

    def __init__(self, directory: Path, redis_url: str, keys: RedisKeys) -> None:
        self.batches = directory / "batches"
        self.batches.touch()
        self.deaths = 0
        self._directory = directory
        self.environment = {
            **Settings(
                _env_file=None,
                redis_url=redis_url,
                redis_prefix=keys.prefix,
                model_repository=write_repository(directory / "models", max_batch_size=BATCH),
                worker_lease_s=0.5,
                worker_max_deliveries=DELIVERIES,
            ).child_environment(directory / "secrets"),
            "BATCHES": str(self.batches),
        }

    @contextlib.asynccontextmanager
    async def working(self, engine: type[TorchScriptBackend]) -> AsyncIterator[None]:
        """A worker that is started again whenever it dies, as an orchestrator does."""
        over = asyncio.Event()

        async def supervise() -> None:
            while not over.is_set():
                name = f"{engine.__name__}-{self.deaths}"
                code = f"from tests.integration.test_poison import *; work({engine.__name__})"
                process = ServerProcess(
                    [sys.executable, "-c", code],
                    name=name,
                    log=self._directory / f"{name}.log",
                    environment=self.environment,
                )
                process.start()
                while process.pid is not None and not over.is_set():  # noqa: ASYNC110 - another process's doing
                    await asyncio.sleep(0.02)
                self.deaths += process.pid is None
                process.stop(10)

        supervising = asyncio.create_task(supervise())
        try:
            yield
        finally:
            over.set()
            await supervising

    def dead(self, *arguments: str) -> str:
        """What `vidtr dead` prints."""
        command = [sys.executable, "-m", "service.cli.main", "dead", *arguments]
        wide = {**self.environment, "COLUMNS": "300"}
        return subprocess.run(command, env=wide, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def processes(tmp_path: Path, redis_server: LocalRedis, keys: RedisKeys) -> Processes:
    return Processes(tmp_path, redis_server.url, keys)


@pytest.fixture
async def submit(processes: Processes, store: JobStore) -> Submit:
    backend = TorchScriptBackend(TorchScriptConfig(Path(processes.environment["VIDTR_MODEL_REPOSITORY"]), threads=1))
    await backend.start()
    [spec] = await backend.models()
    await backend.close()

    async def submit(clip: np.ndarray) -> JobRecord:
        job = record(spec=spec, decoded=decoded(clip_shape=CLIP_SHAPE), deadline_s=300.0)
        await store.put_payloads(job.id, memoryview(clip.tobytes()), spec.clip_bytes)
        await store.accept(job)
        return job

    return submit


async def ended(store: JobStore, job: JobRecord) -> JobState:
    async with asyncio.timeout(PATIENCE_S):
        while (status := await store.status(job.id)).status in UNFINISHED:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)
    return status.status


async def test_of_eight_clips_in_a_batch_the_one_that_kills_workers_fails_alone_and_can_be_replayed(
    redis: Redis, keys: RedisKeys, store: JobStore, processes: Processes, submit: Submit
) -> None:
    clips = [random_clips(1, seed=number, command=POISON if number == 5 else 0) for number in range(BATCH)]
    jobs = [await submit(clip) for clip in clips]
    poison = jobs.pop(5)
    async with processes.working(Mortal):
        assert [await ended(store, job) for job in jobs] == [JobState.SUCCEEDED] * (BATCH - 1)
        assert await ended(store, poison) is JobState.FAILED
    assert processes.batches.read_text().split()[0] == str(BATCH), "they were not scored together"
    assert processes.deaths == DELIVERIES

    error = (await store.status(poison.id)).error
    assert error is not None
    assert (error["code"], error["limit"], error["actual"]) == ("backend_failed", DELIVERIES, DELIVERIES + 1)
    listed = processes.dead("list")
    assert poison.id in listed
    assert "Workers crashed" in listed

    assert f"job {poison.id}: 1 clips queued" in processes.dead("replay", poison.id)
    async with processes.working(TorchScriptBackend):
        assert await ended(store, poison) is JobState.SUCCEEDED
    assert "no dead letters" in processes.dead("list")
