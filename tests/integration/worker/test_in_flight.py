"""A worker with several batches in flight: real Redis, a real network, and engines that can be told when to answer."""

import asyncio
from dataclasses import replace

from service.contracts import JobClass, JobRecord, JobState
from service.errors import BackendUnavailable
from service.inference.backend import Backend, Clips, Scores
from service.worker.config import WorkerConfig
from tests.fixtures.tiny_models import RAISE, random_clips
from tests.integration.worker.rig import CONFIG, Absent, Relay, Rig

THREE = replace(CONFIG, worker_batches_in_flight=3)


class Gate(Relay):
    """Answers once it is opened, and counts the calls that wait."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.opened = asyncio.Event()
        self.waiting = self.most = self.calls = 0
        self.sizes: list[int] = []

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        self.calls += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        self.sizes.append(len(clips))
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1
        return await super().infer(model, version, clips)

    async def wait_for(self, calls: int) -> None:
        while self.waiting < calls:  # noqa: ASYNC110 - the worker's doing
            await asyncio.sleep(0.01)


async def _submit_many(rig: Rig, count: int = 20) -> list[JobRecord]:
    return [await rig.submit(random_clips(1, seed=seed)) for seed in range(count)]


async def test_as_many_batches_as_the_setting_says_are_with_the_engine_at_a_time(rig: Rig) -> None:
    gate = Gate(rig.backend)
    jobs = await _submit_many(rig)
    async with rig.working(gate, THREE):
        await gate.wait_for(3)
        await asyncio.sleep(2 * CONFIG.worker_lease_s)
        assert gate.calls == 3
        gate.opened.set()
        assert [(await rig.ended(job)).status for job in jobs] == [JobState.SUCCEEDED] * len(jobs)
    assert gate.most == 3


async def test_by_default_one_batch_is_with_the_engine(rig: Rig) -> None:
    gate = Gate(rig.backend)
    jobs = await _submit_many(rig)
    gate.opened.set()
    async with rig.working(gate):
        for job in jobs:
            await rig.ended(job)
    assert gate.most == 1


async def test_the_leases_of_all_batches_in_flight_are_renewed(rig: Rig) -> None:
    gate, other = Gate(rig.backend), Gate(rig.backend)
    jobs = await _submit_many(rig, 12)
    async with rig.working(gate, THREE):
        await gate.wait_for(3)
        late = rig.worker("two", other)
        running = asyncio.create_task(late.run())
        await asyncio.sleep(3 * CONFIG.worker_lease_s)
        assert other.calls == 0
        gate.opened.set()
        other.opened.set()
        for job in jobs:
            assert (await rig.ended(job)).status is JobState.SUCCEEDED
        late.stop()
        await running


async def test_a_worker_that_stops_finishes_the_batches_in_flight_and_leaves_the_rest(rig: Rig) -> None:
    gate = Gate(rig.backend)
    jobs = await _submit_many(rig)
    async with rig.working(gate, THREE) as worker:
        await gate.wait_for(3)
        worker.stop()
        await asyncio.sleep(0.05)
        gate.opened.set()
    scored = sum(gate.sizes)
    states = [(await rig.store.status(job.id)).status for job in jobs]
    assert states.count(JobState.SUCCEEDED) == scored < len(jobs)
    assert gate.calls == 3


async def test_batches_in_flight_in_one_outage_do_not_open_the_breaker_together(rig: Rig) -> None:
    class Away(Gate):
        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            await super().infer(model, version, clips)
            if self.calls == 3:
                detail = "restarting"
                raise BackendUnavailable(detail)
            return await self.backend.infer(model, version, clips)

    away = Away(rig.backend)
    jobs = await _submit_many(rig, 12)
    # The announcement would tell of it only if it was open at a heartbeat; the worker itself knows.
    async with rig.working(away, replace(THREE, breaker_open_s=600.0)):
        await away.wait_for(3)
        away.opened.set()
        assert [(await rig.ended(job)).status for job in jobs] == [JobState.SUCCEEDED] * 12


async def test_after_an_outage_one_batch_at_a_time_tries_the_backend(rig: Rig) -> None:
    class Counted(Absent):
        now = most = 0

        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
            return await super().infer(model, version, clips)

    away = Counted(rig.backend)
    jobs = await _submit_many(rig)
    async with rig.working(away, THREE):
        while "open" not in {worker.breaker for worker in await rig.directory.workers()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while away.now:  # noqa: ASYNC110 - those that were in flight
            await asyncio.sleep(0.01)
        away.most, calls = 0, away.calls
        while away.calls < calls + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert away.most == 1
        away.back = True
        for job in jobs:
            assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_poison_clip_fails_alone_among_batches_in_flight(rig: Rig) -> None:
    good = await _submit_many(rig, 10)
    bad = await rig.submit(random_clips(1, command=RAISE))
    more = await _submit_many(rig, 5)
    async with rig.working(config=THREE):
        assert (await rig.ended(bad)).status is JobState.FAILED
        assert {(await rig.ended(job)).status for job in good + more} == {JobState.SUCCEEDED}


async def test_one_batch_that_hangs_is_seen_although_others_move(rig: Rig) -> None:
    class HangsOnce(Relay):
        def __init__(self, backend: Backend) -> None:
            super().__init__(backend)
            self.freed, self.hangs = asyncio.Event(), asyncio.Event()

        async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
            if not self.hangs.is_set():
                self.hangs.set()
                await self.freed.wait()
            return await super().infer(model, version, clips)

    hanging = HangsOnce(rig.backend)
    first = await rig.submit(random_clips(1))
    async with rig.working(hanging, THREE):
        await hanging.hangs.wait()
        rig.now += 1000
        assert (await rig.ended(await rig.submit(random_clips(1, seed=1)))).status is JobState.SUCCEEDED
        while "work" not in (rig.watchdog.stalled() or ""):  # noqa: ASYNC110 - the other loops move on
            await asyncio.sleep(0.02)
        hanging.freed.set()
        assert (await rig.ended(first)).status is JobState.SUCCEEDED
        while rig.watchdog.stalled() is not None:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.02)


async def test_the_clips_of_one_job_may_be_scored_in_several_batches_at_once(rig: Rig) -> None:
    gate = Gate(rig.backend)
    job = await rig.submit(random_clips(12), job_class=JobClass.BULK)
    async with rig.working(gate, THREE):
        await gate.wait_for(3)
        gate.opened.set()
        answer = await rig.ended(job)
    assert answer.status is JobState.SUCCEEDED
    assert answer.result is not None
    assert len(answer.result.windows) == 12


async def test_a_batch_of_bulk_leaves_an_interactive_clip_the_same_wait_with_several_in_flight(rig: Rig) -> None:
    config: WorkerConfig = replace(THREE, worker_bulk_batch_ms=100)
    worker = rig.worker(config=config)
    spec = await rig.spec()
    worker._rate.observe(spec.name, 90, 3.0, full=True)
    worker._intake._scheduler.record(JobClass.INTERACTIVE, spec.name)
    # 30 clips a second: 3 in 100 ms, which three batches share.
    assert worker._intake._max_batch(JobClass.BULK, spec.name) == 1
