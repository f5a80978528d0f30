"""The worker with real Redis and a real TorchScript network that can be told to fail."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from service.contracts import JobRecord, JobState, JobStatus, ModelSpec
from service.errors import BackendUnavailable
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.queue.bus import ResultBus
from service.queue.connection import connect
from service.queue.jobs import JobStore
from service.queue.keys import GROUP, Keys
from service.queue.models import ModelDirectory
from service.queue.stream import ClipStream
from service.worker.config import WorkerConfig
from service.worker.loop import Worker
from tests.factories import decoded, record
from tests.fixtures.tiny_models import CLIP_SHAPE, RAISE, random_clips, write_repository

CONFIG = WorkerConfig(worker_block_ms=50, worker_lease_s=0.4, worker_max_deliveries=3, worker_heartbeat_s=0.1)

Submit = Callable[..., object]


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[TorchScriptBackend]:
    backend = TorchScriptBackend(TorchScriptConfig(write_repository(tmp_path), threads=1))
    await backend.start()
    yield backend
    await backend.close()


class Rig:
    """Jobs of random clips in Redis, and workers over the same backend."""

    def __init__(self, redis: Redis, keys: Keys, store: JobStore, backend: TorchScriptBackend) -> None:
        self.redis = redis
        self.keys = keys
        self.store = store
        self.backend = backend
        self.directory = ModelDirectory(redis, keys)
        self.bus = ResultBus(redis, keys, store, poll_s=0.02)

    async def spec(self) -> ModelSpec:
        [spec] = await self.backend.models()
        return spec

    async def submit(self, clips: Clips, **changes: object) -> JobRecord:
        spec = await self.spec()
        job = record(spec=spec, decoded=decoded(windows=len(clips), clip_shape=CLIP_SHAPE), **changes)
        await self.store.put_payloads(job.id, memoryview(clips.tobytes()), spec.clip_bytes)
        await self.store.accept(job)
        return job

    def worker(self, name: str = "one", backend: Backend | None = None) -> Worker:
        stream = ClipStream(self.redis, self.keys, name)
        return Worker(CONFIG, backend or self.backend, self.store, stream, self.directory)

    @contextlib.asynccontextmanager
    async def working(self, backend: Backend | None = None) -> AsyncIterator[Worker]:
        worker = self.worker(backend=backend)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.stop()
        await running

    async def ended(self, job: JobRecord) -> JobStatus:
        assert await self.bus.wait(job.id, 20) is not None
        return await self.store.status(job.id)


@pytest.fixture
async def rig(redis: Redis, keys: Keys, store: JobStore, backend: TorchScriptBackend) -> Rig:
    return Rig(redis, keys, store, backend)


async def test_every_job_gets_the_scores_of_its_own_clips(rig: Rig) -> None:
    clips = [random_clips(1 + number % 3, seed=number) for number in range(8)]
    jobs = [await rig.submit(part) for part in clips]
    async with rig.working():
        answers = [await rig.ended(job) for job in jobs]
    spec = await rig.spec()
    for part, answer in zip(clips, answers, strict=True):
        assert answer.result is not None
        want = await rig.backend.infer(spec.name, spec.version, part)
        got = [[frame.score for frame in window.attention or ()] for window in answer.result.windows]
        np.testing.assert_allclose(got, want.temporal_attention, atol=1e-5)


async def test_clips_that_wait_are_scored_together(rig: Rig) -> None:
    seen: list[int] = []

    class Counting(Relay):
        async def infer(self, model: str, version: str, clips: Clips) -> Scores:
            seen.append(len(clips))
            return await super().infer(model, version, clips)

    jobs = [await rig.submit(random_clips(1, seed=i)) for i in range(6)]
    async with rig.working(Counting(rig.backend)):
        for job in jobs:
            await rig.ended(job)
    assert seen == [4, 2]


async def test_a_finished_job_leaves_no_entry_and_no_payload(rig: Rig) -> None:
    job = await rig.submit(random_clips(3))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xlen(rig.keys.clips(job.spec.name)) == 0
    assert [key async for key in rig.redis.scan_iter(f"{rig.keys.prefix}:clip:*")] == []


async def test_a_poison_clip_fails_its_own_job_and_no_other(rig: Rig) -> None:
    poisoned = await rig.submit(random_clips(1, command=RAISE))
    healthy = [await rig.submit(random_clips(1, seed=i)) for i in range(3)]
    async with rig.working():
        assert (await rig.ended(poisoned)).status is JobState.FAILED
        assert [(await rig.ended(job)).status for job in healthy] == [JobState.SUCCEEDED] * 3


async def test_a_failed_job_says_why(rig: Rig) -> None:
    job = await rig.submit(random_clips(1, command=RAISE))
    async with rig.working():
        error = (await rig.ended(job)).error
    assert error is not None
    assert error["code"] == "backend_failed"
    assert "asked for an exception" in error["detail"]


async def test_expired_work_is_dropped_and_its_job_expires(rig: Rig) -> None:
    job = await rig.submit(random_clips(1), deadline_s=-1.0)
    async with rig.working():
        status = await rig.ended(job)
    assert status.status is JobState.EXPIRED
    assert status.error is not None
    assert status.error["code"] == "deadline_exceeded"


async def test_a_job_whose_payload_is_gone_expires(rig: Rig) -> None:
    job = await rig.submit(random_clips(2))
    await rig.redis.delete(rig.keys.payload(job.id, 1))
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.EXPIRED


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

    async def infer(self, model: str, version: str, clips: Clips) -> Scores:
        return await self.backend.infer(model, version, clips)


class Absent(Relay):
    """Unavailable until told otherwise."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.asked = asyncio.Event()
        self.back = False

    async def infer(self, model: str, version: str, clips: Clips) -> Scores:
        self.asked.set()
        if not self.back:
            detail = "gone for lunch"
            raise BackendUnavailable(detail)
        return await super().infer(model, version, clips)


async def test_work_waits_for_a_backend_that_is_away(rig: Rig) -> None:
    absent = Absent(rig.backend)
    job = await rig.submit(random_clips(1))
    async with rig.working(absent):
        await absent.asked.wait()
        absent.back = True
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_worker_that_stops_hands_its_unfinished_work_to_the_next(rig: Rig) -> None:
    absent = Absent(rig.backend)
    job = await rig.submit(random_clips(1))
    async with rig.working(absent):
        await absent.asked.wait()
    assert (await rig.store.status(job.id)).status is JobState.QUEUED
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_the_work_of_a_worker_that_vanished_is_taken_over(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    vanished = ClipStream(rig.redis, rig.keys, "vanished")
    await vanished.join([job.spec.name])
    await vanished.read([job.spec.name], 8, 10)
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_clip_that_was_handed_out_too_often_fails_its_job(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    killed = ClipStream(rig.redis, rig.keys, "killed")
    await killed.join([job.spec.name])
    await killed.read([job.spec.name], 8, 10)
    for _ in range(CONFIG.worker_max_deliveries):
        await killed.reclaim(job.spec.name, 0.0, 8)
    async with rig.working():
        error = (await rig.ended(job)).error
    assert error is not None
    assert error["limit"] == CONFIG.worker_max_deliveries


async def test_a_worker_announces_its_models_while_it_lives(rig: Rig) -> None:
    async with rig.working():
        while not (served := await rig.directory.list()):  # noqa: ASYNC110 - another process's doing, nothing to await
            await asyncio.sleep(0.01)
    assert served == [await rig.spec()]


async def test_a_stopped_worker_leaves_no_consumer_behind(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xinfo_consumers(rig.keys.clips(job.spec.name), GROUP) == []


async def test_a_fault_in_one_batch_does_not_stop_the_worker(rig: Rig) -> None:
    class Faulty(Relay):
        faults = 1

        async def infer(self, model: str, version: str, clips: Clips) -> Scores:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            return await super().infer(model, version, clips)

    job = await rig.submit(random_clips(1))
    async with rig.working(Faulty(rig.backend)):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_times_of_an_answer_add_up(rig: Rig) -> None:
    job = await rig.submit(random_clips(1), created_at=time.time() - 1.0)
    async with rig.working():
        result = (await rig.ended(job)).result
    assert result is not None
    assert result.timings_ms.total >= 1000 + result.timings_ms.inference


def test_a_redis_client_of_the_worker_outlasts_its_longest_block() -> None:
    client = connect("redis://localhost", name="x")
    longest_ms = 4000
    assert client.connection_pool.connection_kwargs["socket_timeout"] * 1000 > longest_ms


async def test_a_backend_that_stays_away_expires_the_job_at_its_deadline(rig: Rig) -> None:
    job = await rig.submit(random_clips(1), deadline_s=0.3)
    async with rig.working(Absent(rig.backend)):
        assert (await rig.ended(job)).status is JobState.EXPIRED
