"""The worker with real Redis and a real TorchScript network that can be told to fail."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from service.contracts import ClipScores, JobClass, JobRecord, JobState, JobStatus, ModelSpec
from service.errors import BackendFailed, BackendUnavailable
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.queue.bus import ResultBus
from service.queue.connection import connect
from service.queue.dead import DeadLetters
from service.queue.jobs import JobStore
from service.queue.keys import GROUP, Keys
from service.queue.models import ModelDirectory
from service.queue.stream import ClipStream
from service.worker.batch import clip_scores
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.loop import Worker
from service.worker.pulse import Pulse
from tests.factories import decoded, record
from tests.fixtures.tiny_models import CLIP_SHAPE, RAISE, random_clips, write_repository
from tests.integration.conftest import LETTERS, TIMES

CONFIG = WorkerConfig(
    worker_block_ms=50,
    worker_lease_s=0.4,
    worker_max_deliveries=3,
    worker_heartbeat_s=0.1,
    worker_interactive_weight=2,
    worker_gather_ms=0,
    breaker_failures=3,
    breaker_open_s=0.1,
)

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
        self.dead = DeadLetters(redis, keys, TIMES, LETTERS)
        self.bus = ResultBus(redis, keys, store, poll_s=0.02)
        self.now = 0.0
        self.pulse = Pulse(60, lambda: self.now)

    async def spec(self) -> ModelSpec:
        [spec] = await self.backend.models()
        return spec

    async def submit(self, clips: Clips, *, followed: bool = False, **changes: object) -> JobRecord:
        spec = await self.spec()
        job = record(spec=spec, decoded=decoded(windows=len(clips), clip_shape=CLIP_SHAPE), **changes)
        await self.store.put_payloads(job.id, memoryview(clips.tobytes()), spec.clip_bytes)
        await self.store.accept(job, followed=followed)
        return job

    def worker(self, name: str = "one", backend: Backend | None = None, config: WorkerConfig = CONFIG) -> Worker:
        stream = ClipStream(self.redis, self.keys, name)
        completion = Completion(self.store, stream, self.dead)
        return Worker(config, backend or self.backend, stream, self.directory, completion, self.pulse)

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
    jobs = [await rig.submit(random_clips(1, seed=i)) for i in range(6)]
    backend = Counting(rig.backend)
    async with rig.working(backend):
        for job in jobs:
            await rig.ended(job)
    assert backend.seen == [4, 2]


async def test_where_uploads_queue_for_decoding_a_batch_waits_for_their_clips(rig: Rig) -> None:
    backend = Counting(rig.backend)
    async with rig.working(backend, replace(CONFIG, worker_gather_ms=1000)):
        await rig.ended(await rig.submit(random_clips(1, seed=1), followed=True))
        jobs = [await rig.submit(random_clips(1, seed=seed)) for seed in (2, 3)]
        for job in jobs:
            await rig.ended(job)
    assert backend.seen == [1, 2]


async def test_a_finished_job_leaves_no_entry_and_no_payload(rig: Rig) -> None:
    job = await rig.submit(random_clips(3))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xlen(rig.keys.clips(job.spec.name, JobClass.INTERACTIVE)) == 0
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

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        return await self.backend.infer(model, version, clips)


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


async def test_a_clip_that_was_handed_out_too_often_is_a_dead_letter(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    killed = ClipStream(rig.redis, rig.keys, "killed")
    await killed.join([job.spec.name])
    await killed.read([job.spec.name], 8, 10)
    for _ in range(CONFIG.worker_max_deliveries - 1):
        await killed.reclaim(job.spec.name, 0.0, 8)
    async with rig.working():
        error = (await rig.ended(job)).error
    assert error is not None
    assert error["limit"] == CONFIG.worker_max_deliveries
    [letter] = await rig.dead.letters()
    assert (letter.job_id, letter.deliveries) == (job.id, CONFIG.worker_max_deliveries + 1)


async def test_a_clip_that_breaks_its_worker_again_and_again_is_a_dead_letter_with_the_fault(rig: Rig) -> None:
    class Faulty(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            if (clips[:, 0, 0, 0, 0] == RAISE).any():
                raise ZeroDivisionError("what now")
            return await super().infer(model, version, clips)

    poison = await rig.submit(random_clips(1, command=RAISE))
    healthy = [await rig.submit(random_clips(1, seed=i)) for i in range(3)]
    async with rig.working(Faulty(rig.backend)):
        assert [(await rig.ended(job)).status for job in healthy] == [JobState.SUCCEEDED] * 3
        assert (await rig.ended(poison)).status is JobState.FAILED
    [letter] = await rig.dead.letters()
    assert letter.job_id == poison.id
    assert "ZeroDivisionError: what now" in letter.detail
    assert letter.deliveries == CONFIG.worker_max_deliveries + 1


async def test_a_dead_letter_that_is_replayed_succeeds_once_the_cause_is_gone(rig: Rig) -> None:
    class Refusing(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            raise BackendFailed("not today")

    job = await rig.submit(random_clips(3))
    async with rig.working(Refusing(rig.backend)):
        assert (await rig.ended(job)).status is JobState.FAILED
        [letter] = await rig.dead.letters()
        assert (letter.job_id, letter.detail) == (job.id, "not today")
    assert await rig.dead.replay(job.id) == 3
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_batch_longer_than_a_lease_is_scored_once(rig: Rig) -> None:
    calls: list[int] = []

    class Slow(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            calls.append(len(clips))
            await asyncio.sleep(2.5 * CONFIG.worker_lease_s)
            return await super().infer(model, version, clips)

    job = await rig.submit(random_clips(2))
    peer = rig.worker("peer", Slow(rig.backend))
    running = asyncio.create_task(peer.run())
    async with rig.working(Slow(rig.backend)):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
    peer.stop()
    await running
    assert calls == [2]


async def test_a_clip_that_another_worker_has_scored_meanwhile_is_not_scored_again(rig: Rig) -> None:
    job = await rig.submit(random_clips(2))
    late = ClipStream(rig.redis, rig.keys, "late")
    await late.join([job.spec.name])
    await late.read([job.spec.name], 8, 10)
    scores = await rig.scores_of(random_clips(2))
    await rig.store.record_scores({(job.id, 0): scores[0]})
    seen: list[int] = []

    class Counting(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            seen.append(len(clips))
            return await super().infer(model, version, clips)

    async with rig.working(Counting(rig.backend)):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
    assert seen == [1]


async def test_a_worker_that_died_between_the_scores_and_the_result_leaves_a_job_that_is_finished(rig: Rig) -> None:
    job = await rig.submit(random_clips(2))
    died = ClipStream(rig.redis, rig.keys, "died")
    await died.join([job.spec.name])
    await died.read([job.spec.name], 8, 10)
    scores = await rig.scores_of(random_clips(2))
    assert [found.id for found in await rig.store.record_scores({(job.id, i): scores[i] for i in range(2)})] == [job.id]
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_an_open_breaker_is_announced_and_closes_once_the_backend_is_back(rig: Rig) -> None:
    absent = Absent(rig.backend)
    job = await rig.submit(random_clips(1))
    states: set[str] = set()
    async with rig.working(absent):
        while "open" not in states:
            states |= {worker.breaker for worker in await rig.directory.workers()}
            await asyncio.sleep(0.01)
        absent.back = True
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
        while [worker.breaker for worker in await rig.directory.workers()] != ["closed"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_time_spent_waiting_for_an_absent_backend_is_not_held_against_a_clip(rig: Rig) -> None:
    absent = Absent(rig.backend)
    job = await rig.submit(random_clips(1))
    async with rig.working(absent):
        while absent.calls < 3 * CONFIG.breaker_failures + 3 * CONFIG.worker_max_deliveries:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        absent.back = True
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_batch_gets_the_time_that_its_deadline_leaves(rig: Rig) -> None:
    given: list[float | None] = []

    class Noting(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            given.append(timeout_s)
            return await super().infer(model, version, clips)

    job = await rig.submit(random_clips(1), deadline_s=50.0)
    async with rig.working(Noting(rig.backend)):
        await rig.ended(job)
    [timeout_s] = given
    assert timeout_s is not None
    assert 0 < timeout_s <= 50.0


async def test_short_jobs_are_scored_between_the_batches_of_a_long_one(rig: Rig) -> None:
    order: list[str] = []

    class Noting(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            order.append("single" if (clips[:, 0, 0, 0, 0] == 7).any() else "bulk")
            return await super().infer(model, version, clips)

    await rig.submit(random_clips(40), job_class=JobClass.BULK)
    singles = [await rig.submit(random_clips(1, seed=i, command=7)) for i in range(12)]
    async with rig.working(Noting(rig.backend)):
        for job in singles:
            await rig.ended(job)
    weight = CONFIG.worker_interactive_weight
    assert order[: 2 * weight] == ["single"] * weight + ["bulk"] + ["single"] * (weight - 1)


async def test_a_worker_announces_its_models_while_it_lives(rig: Rig) -> None:
    async with rig.working():
        while not (served := await rig.directory.list()):  # noqa: ASYNC110 - another process's doing, nothing to await
            await asyncio.sleep(0.01)
    assert served == [await rig.spec()]


async def test_a_stopped_worker_leaves_no_consumer_behind(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xinfo_consumers(rig.keys.clips(job.spec.name, JobClass.INTERACTIVE), GROUP) == []


async def test_a_fault_in_one_batch_does_not_stop_the_worker(rig: Rig) -> None:
    class Faulty(Relay):
        faults = 1

        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
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


# --- signs of life -------------------------------------------------------------------------------------------------


async def test_a_worker_that_waits_for_its_backend_is_alive(rig: Rig) -> None:
    absent = Absent(rig.backend)
    await rig.submit(random_clips(1))
    async with rig.working(absent):
        for _ in range(3):
            rig.now += 1000
            # Whatever comes after the jump of the clock: each loop moves again while the backend stays away.
            while rig.pulse.stalled() is not None:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.02)
        assert absent.calls > 0


async def test_a_worker_whose_call_never_ends_is_seen_to_be_stuck(rig: Rig) -> None:
    class Stuck(Relay):
        def __init__(self, backend: Backend) -> None:
            super().__init__(backend)
            self.called, self.freed = asyncio.Event(), asyncio.Event()

        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            self.called.set()
            await self.freed.wait()
            return await super().infer(model, version, clips)

    stuck = Stuck(rig.backend)
    job = await rig.submit(random_clips(1))
    async with rig.working(stuck):
        await stuck.called.wait()
        rig.now += 1000
        while "work" not in (reason := rig.pulse.stalled() or ""):  # noqa: ASYNC110 - the other loops move on
            await asyncio.sleep(0.02)
        stuck.freed.set()
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
        while rig.pulse.stalled() is not None:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.02)
    assert reason == "the work loop has not moved for 1000 s, more than 60 s"
