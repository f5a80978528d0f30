import time

import pytest
from redis.asyncio import Redis

from service.contracts import JobState
from service.errors import BackendFailed, InvalidOption
from service.queue.codec import Outcome
from service.queue.job_list import JobList, listed_as
from service.queue.job_store import JobStore
from service.queue.partitions import Partition, PerPartition
from service.queue.redis_keys import RedisKeys
from testing.factories import decoded, record, scores
from tests.integration.conftest import TIMES


@pytest.fixture
def jobs(redis: Redis, keys: RedisKeys) -> JobList:
    return JobList(PerPartition([Partition(redis, keys)]))


async def accepted(store: JobStore, count: int, owner: str = "app") -> list[str]:
    """Ids of so many jobs, newest first; some are of the same moment."""
    now = time.time()
    made = [record(owner=owner, created_at=now + number // 2) for number in range(count)]
    for job in made:
        await store.accept(job)
    return [job.id for job in sorted(made, key=lambda job: listed_as(job.created_at, job.id), reverse=True)]


async def test_pages_hold_every_job_once_newest_first(store: JobStore, jobs: JobList) -> None:
    expected = await accepted(store, 7)
    found, cursor = [], None
    for size in (3, 3, 1):
        page = await jobs.page("app", cursor, 3)
        assert len(page.jobs) == size
        found += [job.id for job in page.jobs]
        cursor = page.next_cursor
    assert (found, cursor) == (expected, None)


async def test_a_page_that_is_just_full_has_no_next(store: JobStore, jobs: JobList) -> None:
    await accepted(store, 3)
    assert (await jobs.page("app", None, 3)).next_cursor is None


async def test_a_job_that_comes_in_meanwhile_shifts_no_page(store: JobStore, jobs: JobList) -> None:
    expected = await accepted(store, 4)
    first = await jobs.page("app", None, 2)
    await store.accept(record(owner="app", created_at=time.time() + 100))
    assert [job.id for job in (await jobs.page("app", first.next_cursor, 2)).jobs] == expected[2:]


async def test_owners_see_their_own_jobs_only(store: JobStore, jobs: JobList) -> None:
    mine, theirs = await accepted(store, 1), await accepted(store, 1, owner="other")
    assert [job.id for job in (await jobs.page("app", None, 9)).jobs] == mine
    assert [job.id for job in (await jobs.page("other", None, 9)).jobs] == theirs
    assert (await jobs.page("", None, 9)).jobs == []


async def test_the_list_says_how_each_job_stands(store: JobStore, jobs: JobList) -> None:
    made = [record(owner="app", decoded=decoded(windows=2), created_at=1e9 + number) for number in range(4)]
    for job in made:
        await store.accept(job)
    waiting, half, failed, deleted = made
    await store.record_scores({(half.id, 1): scores()})
    await store.finish(failed.id, Outcome(JobState.EXPIRED, error=BackendFailed("x")))
    await store.cancel(deleted.id)
    page = await jobs.page("app", None, 9)
    assert [(job.id, job.status.value, job.clips_done) for job in page.jobs] == [
        (failed.id, "expired", 0),
        (half.id, "running", 1),
        (waiting.id, "queued", 0),
    ]


async def test_jobs_that_are_forgotten_leave_the_list(
    store: JobStore, jobs: JobList, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(owner="app", created_at=time.time() - TIMES.tombstone_ttl_s - 10))
    [fresh] = await accepted(store, 1)
    assert [job.id for job in (await jobs.page("app", None, 9)).jobs] == [fresh]
    assert await redis.zcard(keys.jobs("app")) == 1
    assert 0 < await redis.ttl(keys.jobs("app")) <= TIMES.tombstone_ttl_s


@pytest.mark.parametrize("cursor", ["", "0", "+", "[x", "1" * 17 + "-" + "g" * 32])
async def test_a_cursor_that_no_page_gave_is_refused(jobs: JobList, cursor: str) -> None:
    with pytest.raises(InvalidOption):
        await jobs.page("app", cursor, 9)
