"""The worker with real Redis and a real TorchScript network: what is scored, when, and what the jobs get."""

import asyncio
import time
from dataclasses import replace

import numpy as np

from service.contracts import JobClass, JobState
from service.inference.backend import Clips, Scores
from service.queue.clip_routes import route_of
from service.queue.connection import connect
from tests.fixtures.keyspace import names_like
from tests.fixtures.tiny_models import RAISE, random_clips
from tests.integration.worker.rig import CONFIG, Counting, Relay, Rig


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
    async with rig.working(backend, replace(CONFIG, worker_batch_delay_ms=1000)):
        await rig.ended(await rig.submit(random_clips(1, seed=1), more_coming=True))
        jobs = [await rig.submit(random_clips(1, seed=seed)) for seed in (2, 3)]
        for job in jobs:
            await rig.ended(job)
    assert backend.seen == [1, 2]


class Slow(Counting):
    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        await asyncio.sleep(0.05)
        return await super().infer(model, version, clips, timeout_s=timeout_s)


async def test_while_interactive_clips_come_those_of_bulk_go_one_by_one(rig: Rig) -> None:
    backend = Slow(rig.backend)
    async with rig.working(backend, replace(CONFIG, worker_bulk_batch_ms=1)):
        await rig.ended(await rig.submit(random_clips(1, seed=1)))
        await rig.ended(await rig.submit(random_clips(3, seed=2), job_class=JobClass.BULK))
        await rig.ended(await rig.submit(random_clips(4, seed=3)))
    assert backend.seen == [1, 1, 1, 1, 4]


async def test_a_finished_job_leaves_no_entry_and_no_payload(rig: Rig) -> None:
    job = await rig.submit(random_clips(3))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xlen(rig.keys.clips(job.spec.name, JobClass.INTERACTIVE)) == 0
    assert await names_like(rig.redis, f"{rig.keys.prefix}:clip:*") == set()


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
    spec = await rig.spec()
    assert served == [spec.model_copy(update={"route": route_of(spec)})]


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
