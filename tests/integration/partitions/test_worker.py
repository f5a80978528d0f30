"""A worker that serves several partitions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.contracts import JobClass, JobRecord, JobState
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend
from service.queue.clip_stream import ClipStream
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, PerPartition
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog
from service.worker.worker import Worker
from testing.factories import decoded, record
from tests.fixtures.link import Cut, Link
from tests.fixtures.replies import entries
from tests.fixtures.tiny_models import CLIP_SHAPE
from tests.integration.conftest import LETTERS, TIMES
from tests.integration.partitions.conftest import COUNT, LOST, job_in
from tests.integration.worker.rig import CONFIG, Absent, Relay, backend

__all__ = ["backend"]

Partitions = PerPartition[Partition]
Stores = PerPartition[JobStore]

# Longer than a busy machine stands still.
LEASE_S = 1.5


class Queue:
    """Jobs in several partitions, and a worker that scores them."""

    def __init__(self, partitions: Partitions, stores: Stores, backend: TorchScriptBackend) -> None:
        self.partitions = partitions
        self.stores = stores
        self.backend = backend

    async def submit(self, number: int, **changes: Any) -> JobRecord:
        """A job of one clip in a partition."""
        [spec] = await self.backend.models()
        job = record(id=job_in(number), spec=spec, decoded=decoded(clip_shape=CLIP_SHAPE), **changes)
        await self.stores.of(job.id).accept(job, clips=memoryview(np.zeros(CLIP_SHAPE, np.uint8).tobytes()))
        return job

    def worker(self, backend: Backend | None = None, config: WorkerConfig = CONFIG, name: str = "one") -> Worker:
        sources = self.partitions.map(lambda of: self.source(of, name, config.worker_lease_s))
        return Worker(config, backend or self.backend, sources, Watchdog(60, lambda: 0.0))

    @staticmethod
    def source(of: Partition, name: str, lease_s: float) -> Source:
        stream, directory = ClipStream(of.redis, of.keys, name), ModelDirectory(of.redis, of.keys)
        dead = DeadLetters(of.redis, of.keys, TIMES, LETTERS)
        completion = Completion(JobStore(of.redis, of.keys, TIMES), stream, dead, directory.clock)
        return Source(stream, directory, completion, lease_s)

    @contextlib.asynccontextmanager
    async def working(self, backend: Backend | None = None, config: WorkerConfig = CONFIG) -> AsyncIterator[Worker]:
        worker = self.worker(backend, config)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.stop()
        await running

    async def ended(self, job: JobRecord) -> JobState:
        """How the job ended."""
        async with asyncio.timeout(40):
            while not (status := await self.stores.of(job.id).status(job.id)).status.is_final:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return status.status


class Recorded(Relay):
    """Remembers how many clips each batch had, and waits before it scores where it is told to."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()
        self.batches: list[int] = []

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        self.batches.append(len(clips))
        self.begun.set()
        await self.opened.wait()
        return await super().infer(model, version, clips, timeout_s=timeout_s)


@pytest.fixture
def queue(partitions: Partitions, stores: Stores, backend: TorchScriptBackend) -> Queue:
    return Queue(partitions, stores, backend)


async def test_jobs_of_all_partitions_are_scored_whether_they_come_before_or_after_the_worker(queue: Queue) -> None:
    jobs = [await queue.submit(number) for number in range(COUNT)]
    async with queue.working():
        for job in jobs:
            assert await queue.ended(job) is JobState.SUCCEEDED
        for number in (2, 0, 3, 1, 1):
            assert await queue.ended(await queue.submit(number)) is JobState.SUCCEEDED


async def test_a_worker_is_announced_in_every_partition_and_leaves_all_of_them(queue: Queue) -> None:
    directories = queue.partitions.map(lambda of: ModelDirectory(of.redis, of.keys))
    async with queue.working():
        for directory in directories:
            async with asyncio.timeout(20):
                while not await directory.list():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    for directory in directories:
        assert await directory.workers() == []


async def test_interactive_clips_of_any_partition_go_before_bulk_ones(queue: Queue) -> None:
    recorded = Recorded(queue.backend)
    config = replace(CONFIG, worker_interactive_weight=COUNT)
    bulk = [await queue.submit(number, job_class=JobClass.BULK) for number in range(COUNT)]
    interactive = [await queue.submit(number) for number in range(COUNT)]
    recorded.opened.clear()
    async with queue.working(recorded, config):
        await recorded.begun.wait()
        recorded.opened.set()
        states = [await queue.ended(job) for job in (*interactive, *bulk)]
    assert states == 2 * COUNT * [JobState.SUCCEEDED]
    at = [await _ended_at(queue, job) for job in (*interactive, *bulk)]
    assert max(at[:COUNT]) <= min(at[COUNT:])


async def _ended_at(queue: Queue, job: JobRecord) -> int:
    """The id of its last event, as a number: of one server, so that they can be compared."""
    of_job = queue.partitions.of(job.id)
    [(event_id, _)] = entries(await of_job.redis.xrevrange(of_job.keys.events(job.id), count=1))
    milliseconds, number = event_id.split(b"-")
    return 1000 * int(milliseconds) + int(number)


async def test_partitions_take_turns(queue: Queue) -> None:
    recorded = Recorded(queue.backend)
    [spec] = await queue.backend.models()
    flood = [await queue.submit(0) for _ in range(4 * spec.max_batch_size)]
    one = await queue.submit(2)
    async with queue.working(recorded):
        assert await queue.ended(one) is JobState.SUCCEEDED
        assert len(recorded.batches) <= 3
        for job in flood:
            await queue.ended(job)


@pytest.mark.parametrize("how", [Cut.CLOSED, Cut.HELD])
async def test_while_one_partition_is_away_the_others_go_on_and_its_jobs_wait(
    queue: Queue, link: Link, how: Cut
) -> None:
    waiting = await queue.submit(LOST)
    async with queue.working():
        await queue.ended(waiting)
        waiting = await queue.submit(LOST, job_class=JobClass.BULK)
        await queue.ended(waiting)
        link.cut(how)
        for number in 3 * (0, 2, 3):
            assert await queue.ended(await queue.submit(number)) is JobState.SUCCEEDED
        link.mend()
        assert await queue.ended(await _submit_patiently(queue, LOST)) is JobState.SUCCEEDED


async def _submit_patiently(queue: Queue, number: int) -> JobRecord:
    # The clients of the test share the broken connections of the worker.
    for _ in range(20):
        with contextlib.suppress(Exception):
            return await queue.submit(number)
        await asyncio.sleep(0.1)
    raise AssertionError("the partition is still away")


async def test_a_worker_starts_while_a_partition_is_away(queue: Queue, link: Link) -> None:
    link.cut(Cut.CLOSED)
    async with queue.working():
        for number in (0, 2, 3):
            assert await queue.ended(await queue.submit(number)) is JobState.SUCCEEDED
        link.mend()
        assert await queue.ended(await _submit_patiently(queue, LOST)) is JobState.SUCCEEDED


async def test_what_a_read_brings_keeps_its_lease_until_it_is_collected(queue: Queue) -> None:
    [spec] = await queue.backend.models()
    route, partition = spec.name, queue.partitions[0]
    first, second = (queue.source(partition, name, lease_s=LEASE_S) for name in ("one", "two"))

    async def pause(_: float) -> None:
        raise AssertionError

    await first.stream.join([route])
    read = first.read([route], 8, 5000, pause)
    job = await queue.submit(0)
    await read
    await asyncio.sleep(2 * LEASE_S)
    assert await second.stream.reclaim(route, LEASE_S, 8, [spec]) == []
    delivery = await first.collect()
    assert [entry.job_id for entry in delivery.entries] == [job.id]
    await asyncio.sleep(1.3 * LEASE_S)
    [lost] = await second.stream.reclaim(route, LEASE_S, 8, [spec])
    assert lost.job_id == job.id


async def test_a_worker_that_stops_gives_back_what_its_reads_have_brought(queue: Queue) -> None:
    recorded = Recorded(queue.backend)
    async with queue.working(recorded) as worker:
        await queue.ended(await queue.submit(0))
        await asyncio.sleep(0.02)
        recorded.begun.clear()
        recorded.opened.clear()
        jobs = [await queue.submit(number) for number in range(COUNT)]
        await recorded.begun.wait()
        await asyncio.sleep(0.02)
        worker.stop()
        recorded.opened.set()
    states = [(await queue.stores.of(job.id).status(job.id)).status for job in jobs]
    assert states.count(JobState.SUCCEEDED) == 1
    async with queue.working(config=replace(CONFIG, worker_lease_s=1000.0)):
        # Nothing waits for a lease to end.
        assert [await queue.ended(job) for job in jobs] == COUNT * [JobState.SUCCEEDED]


async def test_while_the_backend_is_away_nothing_is_kept_back_from_other_workers(queue: Queue) -> None:
    absent = Absent(queue.backend)
    jobs = [await queue.submit(number) for number in range(COUNT)]
    async with queue.working(absent, replace(CONFIG, breaker_open_s=1000.0)):
        await absent.asked.wait()
        other = queue.worker(name="two", config=replace(CONFIG, worker_lease_s=1000.0))
        running = asyncio.create_task(other.run())
        assert [await queue.ended(job) for job in jobs] == COUNT * [JobState.SUCCEEDED]
        other.stop()
        await running
