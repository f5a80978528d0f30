"""What an API process does in all partitions: admission, announcements, webhooks, gauges, dead letters."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from service.api.admission import Admission
from service.api.job_event_stream import JobEventStream
from service.api.overdue import Overdue
from service.api.queue_sampler import QueueSampler
from service.api.webhook_sender import Webhooks
from service.contracts import JobRequest, JobState, WorkerStatus
from service.errors import PartitionsChanged, QueueFull, QueueUnavailable
from service.queue.capacity import QueueCapacity
from service.queue.claims import Claims
from service.queue.clock import Clock
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetters
from service.queue.events import JobEvents
from service.queue.idempotency import Claim, IdempotencyConfig, IdempotencyKeys
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.model_directory import ModelDirectory
from service.queue.partition_count import check_count, stored_count
from service.queue.partitions import Partition, PerPartition, QueueAddress
from service.queue.result_bus import ResultBus
from service.queue.webhook_queue import WebhookQueue
from service.video.decode_scheduler import DecodeScheduler
from testing.factories import record, spec
from tests.fixtures.link import Cut, Link
from tests.fixtures.replies import with_scores
from tests.integration import test_admission
from tests.integration.conftest import LETTERS, TIMES, give_up
from tests.integration.partitions.conftest import COUNT, LOST, homed, job_in, partition_of
from tests.integration.test_webhooks import CONFIG as WEBHOOKS
from tests.integration.test_webhooks import FAILED, Receive, receive

__all__ = ["receive"]

Stores = PerPartition[JobStore]
Partitions = PerPartition[Partition]
Directories = PerPartition[ModelDirectory]

CONFIG = replace(test_admission.CONFIG, max_concurrent_uploads=64)
LIMITS = replace(test_admission.LIMITS, max_queue_clips=2 * COUNT)


@pytest.fixture
async def admission(partitions: Partitions, directories: Directories, stores: Stores) -> Admission:
    """Two clips fit into each partition."""
    await announce(directories)
    return admission_of(partitions, directories, stores)


def admission_of(partitions: Partitions, directories: Directories, stores: Stores) -> Admission:
    times = IdempotencyConfig(idempotency_ttl_s=60, reservation_ttl_s=5.0)
    share = LIMITS.share(COUNT)
    return Admission(
        CONFIG,
        LiveModels(directories),
        partitions.map(lambda of: QueueCapacity(of.redis, of.keys, share)),
        Claims(partitions.map(lambda of: IdempotencyKeys(of.redis, of.keys, times)), stores),
        DecodeScheduler(processes=2),
    )


async def announce(directories: Directories) -> None:
    for directory in directories:
        await directory.announce([spec()], WorkerStatus(worker="one", models=("tiny:1",)), ttl_s=60.0)


def admit(admission: Admission, claim: Claim | None = None):  # type: ignore[no-untyped-def]
    return admission.admit(JobRequest(windows=1), claim, 10.0, asynchronous=False)


# --- admission -----------------------------------------------------------------------------------------------------


async def test_uploads_go_to_all_partitions_in_turn(admission: Admission) -> None:
    async with contextlib.AsyncExitStack() as stack:
        admitted = [await stack.enter_async_context(admit(admission)) for _ in range(COUNT)]
        assert sorted(partition_of(one.job_id) for one in admitted) == list(range(COUNT))


async def test_an_upload_is_refused_once_the_whole_installation_is_full(admission: Admission) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(LIMITS.max_queue_clips):
            await stack.enter_async_context(admit(admission))
        with pytest.raises(QueueFull) as caught:
            await stack.enter_async_context(admit(admission))
        assert caught.value.limit == LIMITS.max_queue_clips / COUNT


async def test_an_upload_with_a_key_waits_for_room_where_its_key_is(admission: Admission) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for turn in range(2):
            key = await admission.earlier(f"{turn}-{homed(2, admission._capacity, f'{turn}-')[2:]}", "")
            assert isinstance(key, Claim)
            await stack.enter_async_context(admit(admission, key))
        third = await admission.earlier(homed(2, admission._capacity, "third-"), "")
        assert isinstance(third, Claim)
        with pytest.raises(QueueFull):
            await stack.enter_async_context(admit(admission, third))
        await stack.enter_async_context(admit(admission))


async def test_while_one_partition_is_away_all_uploads_are_admitted_by_the_others(
    admission: Admission, lost: Link
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        admitted = [await stack.enter_async_context(admit(admission)) for _ in range(2 * (COUNT - 1))]
        assert LOST not in {partition_of(one.job_id) for one in admitted}
        with pytest.raises(QueueFull):
            await stack.enter_async_context(admit(admission))


async def test_an_upload_is_refused_when_no_partition_can_be_reached(
    partitions: Partitions, directories: Directories, stores: Stores
) -> None:
    await announce(directories)
    away = connect("redis://127.0.0.1:1/0", name="tests")
    nowhere = partitions.map(lambda of: Partition(away, of.keys))
    with pytest.raises(QueueUnavailable):
        async with admit(admission_of(nowhere, directories, stores)):
            pass


async def test_what_uploads_hold_is_renewed_while_one_partition_hangs(
    admission: Admission, partitions: Partitions, link: Link
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        admitted = [await stack.enter_async_context(admit(admission)) for _ in range(COUNT)]
        link.cut(Cut.HELD)
        try:
            before = {one.job_id: await lapses(partitions, one.job_id) for one in admitted if not away(one.job_id)}
            await asyncio.sleep(0.01)
            await admission._renew()
            for job_id, at in before.items():
                assert await lapses(partitions, job_id) > at
        finally:
            link.mend()


def away(job_id: str) -> bool:
    return partition_of(job_id) == LOST


async def lapses(partitions: Partitions, job_id: str) -> float:
    """When the reservation of a job lapses."""
    of_job = partitions.of(job_id)
    for member, at in with_scores(await of_job.redis.zrange(of_job.keys.reserved, 0, -1, withscores=True)):
        if member.startswith(job_id.encode()):
            return at
    raise AssertionError("nothing is reserved")


# --- announcements -------------------------------------------------------------------------------------------------


async def test_one_partition_that_answers_is_enough_to_know_the_models(directories: Directories, lost: Link) -> None:
    await directories[3].announce([spec()], WorkerStatus(worker="one", models=("tiny:1",)), ttl_s=60.0)
    models = LiveModels(directories)
    models._preferred = LOST
    assert [model.name for model in await models.list()] == ["tiny"]
    assert models._preferred == 3


async def test_a_partition_that_hangs_does_not_hold_the_question_up(directories: Directories, link: Link) -> None:
    await announce(directories)
    models = LiveModels(directories)
    models._preferred = LOST
    link.cut(Cut.HELD)
    try:
        assert [model.name for model in await models.list()] == ["tiny"]
    finally:
        link.mend()


async def test_without_a_worker_no_model_is_served(directories: Directories, lost: Link) -> None:
    assert await LiveModels(directories).list() == []


# --- jobs end ------------------------------------------------------------------------------------------------------


async def test_webhooks_of_all_partitions_are_delivered_and_those_of_one_that_was_away_later(
    partitions: Partitions, stores: Stores, receive: Receive, link: Link
) -> None:
    receiver = await receive(200)
    webhooks = Webhooks(WEBHOOKS, partitions.map(lambda of: WebhookQueue(of.redis, of.keys)))
    jobs = [record(id=job_in(number), request=JobRequest(webhook=receiver.url)) for number in range(COUNT)]
    for job in jobs:
        await stores.of(job.id).accept(job)
        await stores.of(job.id).finish(job.id, FAILED)
    link.cut(Cut.CLOSED)
    await webhooks.deliver()
    assert len(receiver.requests) == COUNT - 1
    link.mend()
    await webhooks.deliver()
    told = [headers["webhook-id"].partition("-")[0] for headers, _ in receiver.requests]
    assert sorted(told) == sorted(job.id for job in jobs)


async def test_jobs_expire_in_every_partition(stores: Stores, directories: Directories) -> None:
    jobs = [record(id=job_in(number), deadline_s=-1.0) for number in range(COUNT)]
    for job, store, directory in zip(jobs, stores, directories, strict=True):
        await store.accept(job)
        await Overdue(store, directory).sweep()
        assert (await store.status(job.id)).status is JobState.EXPIRED


async def test_a_waiter_and_a_follower_learn_of_the_end_wherever_the_job_is(
    partitions: Partitions, stores: Stores
) -> None:
    buses = PerPartition(
        ResultBus(of.redis, of.keys, store, poll_s=1000.0) for of, store in zip(partitions, stores, strict=True)
    )
    for bus in buses:
        await bus.start()
    following = JobEventStream(
        partitions.map(lambda of: JobEvents(of.redis, of.keys)),
        buses,
        lambda: False,
        partitions.map(lambda of: Clock(of.redis)),
    )
    for number, bus in enumerate(buses):
        job = record(id=job_in(number))
        unended = bus.completion(job.id)
        await stores.of(job.id).accept(job, reply_to=bus.reply_to)
        status = await stores.of(job.id).status(job.id)
        lines = asyncio.create_task(collected(following, status))
        await asyncio.sleep(0.05)
        await stores.of(job.id).finish(job.id, FAILED)
        assert await bus.wait(job.id, 10, unended) is not None
        assert b"failed" in (await lines)[-1]
    for bus in buses:
        await bus.close()


async def collected(following: JobEventStream, status: object) -> list[bytes]:
    return [line async for line in following.stream(status, None)]  # type: ignore[arg-type]


async def test_a_dead_letter_is_replayed_in_its_partition(partitions: Partitions, stores: Stores) -> None:
    dead = partitions.map(lambda of: DeadLetters(of.redis, of.keys, TIMES, LETTERS))
    jobs = [record(id=job_in(number)) for number in range(COUNT)]
    for job in jobs:
        clips = memoryview(bytes(spec().clip_bytes))
        await stores.of(job.id).accept(job, clips=clips)
        assert await give_up(dead.of(job.id), job)
    for job in jobs:
        assert await dead.of(job.id).replay(job.id) == 1
        assert (await stores.of(job.id).status(job.id)).status is JobState.QUEUED


# --- gauges --------------------------------------------------------------------------------------------------------


async def test_gauges_are_sums_over_the_partitions_that_answer(
    partitions: Partitions, directories: Directories, stores: Stores, link: Link
) -> None:
    await announce(directories)
    for number in range(COUNT):
        job = record(id=job_in(number), spec=spec(name="tiny"))
        await stores.of(job.id).accept(job)
    sampler = QueueSampler(partitions, LiveModels(directories), interval_s=60)
    await sampler.sample()
    clips = {"model": "tiny", "class": "interactive"}
    seen = [("vidtr_queue_clips", clips), ("vidtr_partitions_up", {}), ("vidtr_redis_up", {})]
    assert [REGISTRY.get_sample_value(name, labels) for name, labels in seen] == [COUNT, COUNT, 1]
    # The memory of a server counts once, however many of the partitions are on it.
    servers = {info["run_id"]: info["used_memory"] for info in [await part.redis.info() for part in partitions]}
    memory = REGISTRY.get_sample_value("vidtr_redis_memory_bytes")
    assert memory is not None
    assert memory < 1.3 * sum(servers.values())
    link.cut(Cut.CLOSED)
    await sampler.sample()
    assert [REGISTRY.get_sample_value(name, labels) for name, labels in seen] == [COUNT - 1, COUNT - 1, 0]


# --- the number of partitions --------------------------------------------------------------------------------------


async def test_a_process_with_another_number_of_partitions_is_told_both(address: QueueAddress) -> None:
    await check_count(address)
    await check_count(address)
    assert await stored_count(address) == COUNT
    other = QueueAddress(address.redis_url, address.redis_prefix, COUNT + 1)
    with pytest.raises(PartitionsChanged, match=rf"has {COUNT} partitions, and `queue_partitions` is {COUNT + 1}"):
        await check_count(other)


async def test_with_one_partition_nothing_is_written_or_asked(address: QueueAddress) -> None:
    await check_count(QueueAddress(address.redis_url, address.redis_prefix, 1))
    assert await stored_count(address) is None


async def test_a_redis_that_is_away_does_not_keep_a_process_from_its_start() -> None:
    await check_count(QueueAddress("redis://127.0.0.1:1/0", "any", COUNT))
