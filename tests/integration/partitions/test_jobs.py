"""Jobs of several partitions as one: list, Idempotency-Keys, result cache, quotas."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.aggregate import aggregate
from service.contracts import JobState
from service.errors import IdempotencyInProgress, QueueUnavailable, QuotaExceeded
from service.queue.claims import Claims
from service.queue.codec import Outcome
from service.queue.idempotency import Claim, Earlier, IdempotencyConfig, IdempotencyKeys, key_name
from service.queue.job_list import JobList, listed_as
from service.queue.job_store import JobStore
from service.queue.partitions import Partition, PerPartition, QueueAddress, close
from service.queue.quota import QuotaLimits, Quotas
from service.queue.result_cache import ResultCache
from testing.factories import record, scores, spec
from tests.fixtures.link import Link
from tests.integration.partitions.conftest import COUNT, LOST, connected, homed, job_in, partition_of

Stores = PerPartition[JobStore]
Partitions = PerPartition[Partition]


@pytest.fixture
async def other(address: QueueAddress, link: Link) -> AsyncIterator[Partitions]:
    """The clients of another process."""
    partitions = connected(address, link)
    yield partitions
    await close(partitions)


def claims_of(partitions: Partitions, stores: Stores) -> Claims:
    times = IdempotencyConfig(idempotency_ttl_s=60, reservation_ttl_s=5.0)
    return Claims(partitions.map(lambda of: IdempotencyKeys(of.redis, of.keys, times)), stores)


async def accepted(stores: Stores, number: int, **changes: Any) -> str:
    job = record(id=job_in(number), **changes)
    await stores.of(job.id).accept(job)
    return job.id


async def succeed(stores: Stores, job_id: str) -> None:
    job = record(id=job_id)
    await stores.of(job_id).finish(job_id, Outcome(JobState.SUCCEEDED, result=aggregate(job, spec(), [scores()], 0.0)))


# --- list ----------------------------------------------------------------------------------------------------------


async def test_pages_hold_the_jobs_of_all_partitions_once_newest_first(stores: Stores, partitions: Partitions) -> None:
    now = time.time()
    jobs = [
        record(id=job_in(number % COUNT), owner="app", created_at=now + number // 3) for number in range(3 * COUNT + 1)
    ]
    for job in jobs:
        await stores.of(job.id).accept(job)
    expected = [job.id for job in sorted(jobs, key=lambda job: listed_as(job.created_at, job.id), reverse=True)]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await JobList(partitions).page("app", cursor, 5)
        found += [job.id for job in page.jobs]
        cursor, pages = page.next_cursor, pages + 1
    assert found == expected
    assert pages == 3


async def test_a_deleted_job_leaves_a_gap_and_not_a_wrong_cursor(stores: Stores, partitions: Partitions) -> None:
    now = time.time()
    ids = [await accepted(stores, number, owner="app", created_at=now - number) for number in range(COUNT)]
    await stores.of(ids[1]).cancel(ids[1])
    first = await JobList(partitions).page("app", None, 2)
    second = await JobList(partitions).page("app", first.next_cursor, 2)
    assert ([job.id for job in first.jobs], [job.id for job in second.jobs]) == ([ids[0]], ids[2:])


async def test_a_list_without_the_jobs_of_one_partition_is_no_list(partitions: Partitions, lost: Link) -> None:
    with pytest.raises(QueueUnavailable):
        await JobList(partitions).page("app", None, 5)


# --- Idempotency-Keys ----------------------------------------------------------------------------------------------


async def test_two_processes_make_one_job_of_a_key_and_it_is_where_the_key_is(
    partitions: Partitions, other: Partitions, stores: Stores
) -> None:
    for number in range(8):
        found = await asyncio.gather(
            *(claims_of(process, stores).claim(f"key-{number}", "app") for process in (partitions, other)),
            return_exceptions=True,
        )
        [claim] = [one for one in found if isinstance(one, Claim)]
        assert [type(one) for one in found if one is not claim] == [IdempotencyInProgress]
        job = record(id=claim.job_id, owner="app")
        await stores.of(job.id).accept(job, claim=claim, fingerprint="f")
        again = await claims_of(other, stores).claim(f"key-{number}", "app")
        assert again == Earlier(job.id, "f")


async def test_a_key_and_its_job_are_in_one_partition(partitions: Partitions, stores: Stores) -> None:
    for number in range(COUNT):
        key = homed(number, partitions, key_name("app", ""))
        claim = await claims_of(partitions, stores).claim(key.partition("\n")[2], "app")
        assert isinstance(claim, Claim)
        assert partition_of(claim.job_id) == number
        assert claim.key.startswith(partitions[number].keys.prefix)


async def test_a_key_whose_cached_job_in_another_partition_was_deleted_is_free(
    partitions: Partitions, stores: Stores
) -> None:
    claims = claims_of(partitions, stores)
    claim = await claims.claim("key", "app")
    assert isinstance(claim, Claim)
    elsewhere = await accepted(stores, (partition_of(claim.job_id) + 1) % COUNT)
    await claims.lead(claim, elsewhere, "f")
    assert await claims.claim("key", "app") == Earlier(elsewhere, "f")
    await stores.of(elsewhere).cancel(elsewhere)
    assert isinstance(await claims.claim("key", "app"), Claim)


async def test_a_key_of_another_partition_is_claimed_while_one_is_away(
    partitions: Partitions, stores: Stores, lost: Link
) -> None:
    claims = claims_of(partitions, stores)
    for number in range(COUNT):
        key = homed(number, partitions)
        if number == LOST:
            with pytest.raises(QueueUnavailable):
                await claims.claim(key, "")
        else:
            assert isinstance(await claims.claim(key, ""), Claim)


# --- result cache --------------------------------------------------------------------------------------------------


def entry_in(cache: ResultCache, partitions: Partitions, number: int) -> str:
    """The cache key of an upload whose entry is in a partition."""
    keys = (cache.key("app", spec(), f"upload-{i}") for i in range(1000))
    return next(key for key in keys if key.startswith(f"{partitions[number].keys.prefix}:"))


@pytest.mark.parametrize("home", [0, 2], ids=["in the partition of the job", "in another partition"])
async def test_a_cached_result_is_found_until_its_job_is_deleted_and_leaves_nothing(
    partitions: Partitions, stores: Stores, home: int
) -> None:
    cache = ResultCache(partitions, stores, life_s=60)
    key, job = entry_in(cache, partitions, home), record(id=job_in(0))
    await stores.of(job.id).accept(job, cache_key=key)
    await cache.remember(key, job.id)
    await succeed(stores, job.id)
    found = await cache.find(key)
    assert found is not None
    assert found.id == job.id
    await cache.forget(job.id)
    await stores.of(job.id).cancel(job.id)
    assert await cache.find(key) is None
    assert not await partitions[home].redis.exists(key)


async def test_an_entry_that_leads_to_another_job_by_now_stays(partitions: Partitions, stores: Stores) -> None:
    cache = ResultCache(partitions, stores, life_s=60)
    key, job = entry_in(cache, partitions, 2), record(id=job_in(0))
    await stores.of(job.id).accept(job, cache_key=key)
    await cache.remember(key, newer := job_in(3))
    await cache.forget(job.id)
    assert await partitions[2].redis.get(key) == newer.encode()


async def test_a_job_is_deleted_though_the_partition_of_its_cache_entry_is_away(
    partitions: Partitions, stores: Stores, lost: Link
) -> None:
    cache = ResultCache(partitions, stores, life_s=60)
    key, job = entry_in(cache, partitions, LOST), record(id=job_in(0))
    await stores.of(job.id).accept(job, cache_key=key)
    assert await cache.find(key) is None
    await cache.forget(job.id)
    assert await stores.of(job.id).cancel(job.id)


# --- quotas --------------------------------------------------------------------------------------------------------


async def test_two_processes_count_a_caller_together_wherever_its_quota_is(
    partitions: Partitions, other: Partitions
) -> None:
    three = QuotaLimits(requests="3/minute")
    both = [process.map(lambda of: Quotas(of.redis, of.keys)) for process in (partitions, other)]
    for number in range(COUNT):
        caller = homed(number, partitions)
        for turn in range(3):
            await both[turn % 2].home(caller).spend(caller, three, "requests", 1)
        for process in both:
            with pytest.raises(QuotaExceeded):
                await process.home(caller).spend(caller, three, "requests", 1)
