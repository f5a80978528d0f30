"""A worker whose backend is away, or never answers."""

import asyncio

from service.contracts import JobState
from service.inference.backend import Backend, Clips, Scores
from tests.fixtures.tiny_models import random_clips
from tests.integration.worker.rig import CONFIG, Absent, Relay, Rig


async def test_work_waits_for_a_backend_that_is_away(rig: Rig) -> None:
    absent = Absent(rig.backend)
    job = await rig.submit(random_clips(1))
    async with rig.working(absent):
        await absent.asked.wait()
        absent.back = True
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


async def test_a_backend_that_stays_away_expires_the_job_at_its_deadline(rig: Rig) -> None:
    job = await rig.submit(random_clips(1), deadline_s=0.3)
    async with rig.working(Absent(rig.backend)):
        assert (await rig.ended(job)).status is JobState.EXPIRED


async def test_a_worker_that_waits_for_its_backend_is_alive(rig: Rig) -> None:
    absent = Absent(rig.backend)
    await rig.submit(random_clips(1))
    async with rig.working(absent):
        for _ in range(3):
            rig.now += 1000
            # Whatever comes after the jump of the clock: each loop moves again while the backend stays away.
            while rig.watchdog.stalled() is not None:  # noqa: ASYNC110 - nothing to wait for
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
        while "work" not in (reason := rig.watchdog.stalled() or ""):  # noqa: ASYNC110 - the other loops move on
            await asyncio.sleep(0.02)
        stuck.freed.set()
        assert (await rig.ended(job)).status is JobState.SUCCEEDED
        while rig.watchdog.stalled() is not None:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.02)
    assert reason == "the work loop has not moved for 1000 s, more than 60 s"


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
