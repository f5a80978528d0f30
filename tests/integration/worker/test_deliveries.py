"""Who has a clip when workers stop, vanish, die over it or are slow."""

import asyncio
from dataclasses import replace

from service.contracts import JobClass, JobState
from service.errors import BackendFailed
from service.inference.backend import Clips, Scores
from service.queue.lead import LEADERS, Lead
from service.queue.redis_keys import GROUP
from tests.fixtures.tiny_models import RAISE, random_clips
from tests.integration.worker.rig import CONFIG, Absent, Counting, Relay, Rig


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
    await rig.taken_by("vanished", job)
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_clip_that_was_handed_out_too_often_is_a_dead_letter(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    killed = await rig.taken_by("killed", job)
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
    # Long enough that a busy machine does not keep a worker from renewing it.
    config = replace(CONFIG, worker_lease_s=1.5)
    calls: list[int] = []

    class Slow(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            calls.append(len(clips))
            await asyncio.sleep(2.5 * config.worker_lease_s)
            return await super().infer(model, version, clips)

    job = await rig.submit(random_clips(2))
    peer = rig.worker("peer", Slow(rig.backend), config)
    running = asyncio.create_task(peer.run())
    async with rig.working(Slow(rig.backend), config):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
    peer.stop()
    await running
    assert calls == [2]


async def test_a_clip_that_another_worker_has_scored_meanwhile_is_not_scored_again(rig: Rig) -> None:
    job = await rig.submit(random_clips(2))
    await rig.taken_by("late", job)
    scores = await rig.scores_of(random_clips(2))
    await rig.store.record_scores({(job.id, 0): scores[0]})
    counting = Counting(rig.backend)
    async with rig.working(counting):
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
    assert counting.seen == [1]


async def test_a_worker_that_died_between_the_scores_and_the_result_leaves_a_job_that_is_finished(rig: Rig) -> None:
    job = await rig.submit(random_clips(2))
    await rig.taken_by("died", job)
    scores = await rig.scores_of(random_clips(2))
    assert [found.id for found in await rig.store.record_scores({(job.id, i): scores[i] for i in range(2)})] == [job.id]
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


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


async def test_a_stopped_worker_leaves_no_consumer_behind(rig: Rig) -> None:
    job = await rig.submit(random_clips(1))
    async with rig.working():
        await rig.ended(job)
    assert await rig.redis.xinfo_consumers(rig.keys.clips(job.spec.name, JobClass.INTERACTIVE), GROUP) == []


async def test_work_is_found_where_the_workers_that_wait_for_it_have_died(rig: Rig) -> None:
    spec = await rig.spec()
    for number in range(LEADERS):
        assert await Lead(rig.redis, rig.keys, f"dead{number}").take([spec.name], 60_000) == [spec.name]
    async with rig.working():
        assert (await rig.ended(await rig.submit(random_clips(1)))).status is JobState.SUCCEEDED


async def test_jobs_that_come_at_once_keep_all_workers_busy(rig: Rig) -> None:
    count = LEADERS + 3
    all_busy = asyncio.Barrier(count)

    class Gathering(Relay):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            await all_busy.wait()
            return await super().infer(model, version, clips)

    backend = Gathering(rig.backend)
    patient = replace(CONFIG, worker_lease_s=10.0, worker_block_ms=500)
    workers = [rig.worker(f"worker{number}", backend, patient) for number in range(count)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    spec = await rig.spec()
    jobs = [await rig.submit(random_clips(spec.max_batch_size, seed=seed)) for seed in range(count)]
    assert [(await rig.ended(job)).status for job in jobs] == [JobState.SUCCEEDED] * count
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
