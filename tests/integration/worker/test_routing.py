"""Workers of several versions and weights beside each other: each scores what it serves, and nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from service.contracts import JobClass, JobRecord, JobState, ModelSpec, WorkerStatus
from service.queue.clip_routes import route_of
from service.worker.worker import Worker
from tests.fixtures.replies import entries
from tests.fixtures.tiny_models import random_clips
from tests.integration.worker.rig import Other, Rig

WEIGHTS = "b" * 64


@contextlib.asynccontextmanager
async def both_working(rig: Rig, *backends: Other) -> AsyncIterator[list[Worker]]:
    """A worker for each of these backends, once all have announced what they serve."""
    workers = [rig.worker(f"worker {i}", backend) for i, backend in enumerate(backends)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    while len(await rig.directory.list()) < len(workers):  # noqa: ASYNC110 - another task's doing, nothing to await
        await asyncio.sleep(0.01)
    yield workers
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)


async def by_an_earlier_release(rig: Rig, spec: ModelSpec, seed: int) -> JobRecord:
    """A job as the release before routes queues it: under the model's name, its entry without the weights."""
    job = await rig.submit(random_clips(1, seed=seed), spec=spec.model_copy(update={"route": ""}))
    stream = rig.keys.clips(spec.name, job.job_class)
    pipe = rig.redis.pipeline(transaction=True)
    for entry_id, fields in entries(await rig.redis.xrange(stream)):
        if fields[b"job"].decode() == job.id and b"weights" in fields:
            pipe.xdel(stream, entry_id)
            pipe.xadd(stream, {name: value for name, value in fields.items() if name != b"weights"})
    await pipe.execute()
    return job


@pytest.mark.parametrize("changes", [{"version": "2"}, {"weights_sha256": WEIGHTS}], ids=["version", "weights"])
@pytest.mark.parametrize("release", ["this", "earlier"])
async def test_every_job_is_scored_by_the_model_it_was_planned_for(
    rig: Rig, changes: dict[str, str], release: str
) -> None:
    one, other = Other(rig.backend), Other(rig.backend, **changes)
    jobs: list[JobRecord] = []
    async with both_working(rig, one, other):
        for i in range(12):
            spec = (await rig.directory.list())[i % 2]
            jobs.append(
                await rig.submit(random_clips(1, seed=i), spec=spec)
                if release == "this"
                else await by_an_earlier_release(rig, spec, i)
            )
        ended = [await rig.ended(job) for job in jobs]
    assert [status.status for status in ended] == [JobState.SUCCEEDED] * len(jobs)
    named = [(s.result.model.version, s.result.model.weights_sha256) for s in ended if s.result]
    assert named == [(job.spec.version, job.spec.weights_sha256) for job in jobs]
    assert (one.clips, other.clips) == (6, 6)
    assert await rig.dead.letters() == []


@pytest.mark.parametrize("last", ["at once", "later"])
async def test_an_answer_has_the_labels_of_the_model_that_scored_whatever_the_record_says(rig: Rig, last: str) -> None:
    served = await rig.spec()
    renamed = tuple(f"renamed {label}" for label in served.labels)
    clips = random_clips(2)
    for planned in (served.job_model, served.model_copy(update={"labels": renamed})):
        job = await rig.submit(clips, spec=planned)
        if last == "later":
            await rig.store.record_scores({(job.id, 0): (await rig.scores_of(clips))[0]})
        async with rig.working():
            result = (await rig.ended(job)).result
        assert result
        assert {one.label for one in result.predictions} <= set(served.labels)


async def test_a_job_that_was_scored_before_is_finished_by_a_worker_of_its_weights(rig: Rig) -> None:
    clips = random_clips(1)
    job = await rig.submit(clips, spec=(await rig.spec()).job_model)
    await rig.store.record_scores({(job.id, 0): (await rig.scores_of(clips))[0]})
    async with both_working(rig, Other(rig.backend, weights_sha256=WEIGHTS)):
        await rig.ended(await rig.submit(clips, spec=(await rig.directory.list())[0]))
        assert (await rig.store.status(job.id)).status is JobState.RUNNING
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_worker_says_that_it_holds_the_labels_of_its_models(rig: Rig) -> None:
    async with both_working(rig, Other(rig.backend)):
        [spec], fleet = await rig.directory.live()
        assert fleet.job_model(spec) == spec.job_model
        await rig.directory.announce([spec], WorkerStatus(worker="before", routes=(spec.route,)), ttl_s=60)
        [spec], fleet = await rig.directory.live()
        assert fleet.job_model(spec) == spec


async def test_what_no_worker_serves_waits_without_blame_and_is_not_handed_round(rig: Rig) -> None:
    spec = (await rig.spec()).model_copy(update={"weights_sha256": WEIGHTS})
    job = await rig.submit(random_clips(1), spec=spec)
    key = rig.keys.clips(spec.name, JobClass.INTERACTIVE)
    async with rig.working():
        # Served after it in the same stream, so the other was met before.
        await rig.ended(await rig.submit(random_clips(1, seed=1)))
        served = await rig.ended(await rig.submit(random_clips(1, seed=2)))
        [row] = await rig.redis.xpending_range(key, "workers", "-", "+", 10)
        before = int(row["time_since_delivered"])
        await asyncio.sleep(0.2)
        [row] = await rig.redis.xpending_range(key, "workers", "-", "+", 10)
    assert served.status is JobState.SUCCEEDED
    assert (await rig.store.status(job.id)).status is JobState.QUEUED
    assert row["times_delivered"] == 0
    assert int(row["time_since_delivered"]) > before
    async with both_working(rig, Other(rig.backend, weights_sha256=WEIGHTS)):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_what_is_over_leaves_the_stream_of_a_name_though_nobody_serves_it(rig: Rig) -> None:
    spec = (await rig.spec()).model_copy(update={"version": "7"})
    job = await rig.submit(random_clips(1), spec=spec)
    async with rig.working():
        await rig.ended(await rig.submit(random_clips(1, seed=1)))
        await rig.store.cancel(job.id)
        while await rig.redis.xlen(rig.keys.clips(spec.name, job.job_class)):  # noqa: ASYNC110 - a worker's doing
            await asyncio.sleep(0.01)


async def test_a_job_waits_on_the_route_of_its_weights(rig: Rig) -> None:
    spec = await rig.spec()
    job = await rig.submit(random_clips(1), spec=spec.model_copy(update={"route": route_of(spec)}))
    assert await rig.redis.xlen(rig.keys.clips(spec.name, job.job_class)) == 0
    assert await rig.redis.xlen(rig.keys.clips(route_of(spec), job.job_class)) == 1
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
