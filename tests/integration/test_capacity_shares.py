"""What one caller may reserve beside others, whichever processes its uploads come through."""

import time

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobState
from service.errors import BackendFailed, QueueFull
from service.queue.capacity import QueueCapacity, Reservation
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.redis_keys import HOLDS_FIELD, RedisKeys
from testing.factories import decoded, record, scores, spec
from tests.fixtures.replies import members
from tests.integration.test_capacity import limits

SPEC = spec()


def of(caller: str, job_id: str, clips: int) -> Reservation:
    return Reservation(job_id, JobClass.INTERACTIVE, clips, SPEC.clip_bytes, SPEC.name, caller)


@pytest.fixture
def capacity(redis: Redis, keys: RedisKeys) -> QueueCapacity:
    return QueueCapacity(redis, keys, limits(max_queue_clips=100, caller_share=0.75))


async def fill(capacity: QueueCapacity, caller: str, clips: int = 1) -> int:
    """How many clips a caller gets who takes all that it can."""
    taken = 0
    while True:
        try:
            await capacity.reserve(of(caller, f"{caller}{taken}", clips), [SPEC], None, 60.0)
        except QueueFull:
            return taken
        taken += clips


async def test_however_many_take_all_they_can_the_next_finds_room(capacity: QueueCapacity) -> None:
    assert [await fill(capacity, caller) for caller in ("a", "b", "c")] == [75, 18, 5]
    await capacity.reserve(of("good", "good", 1), [SPEC], None, 60.0)


async def test_a_caller_beyond_its_share_is_told_what_it_holds_and_may(capacity: QueueCapacity) -> None:
    await capacity.reserve(of("a", "a", 70), [SPEC], None, 60.0)
    with pytest.raises(QueueFull, match="70 clips of this caller are in flight") as caught:
        await capacity.reserve(of("a", "b", 10), [SPEC], None, 60.0)
    assert (caught.value.limit, caught.value.actual) == (75, 80)
    assert caught.value.retry_after_s


async def test_who_holds_nothing_may_take_all_that_is_free_at_once(capacity: QueueCapacity) -> None:
    await capacity.reserve(of("a", "film", 100), [SPEC], None, 60.0)


async def test_bytes_have_their_shares_too(redis: Redis, keys: RedisKeys) -> None:
    capacity = QueueCapacity(
        redis, keys, limits(max_queue_clips=1000, max_queue_bytes=100 * SPEC.clip_bytes, caller_share=0.75)
    )
    assert await fill(capacity, "a") == 75
    with pytest.raises(QueueFull, match="bytes of clips of this caller"):
        await capacity.reserve(of("a", "more", 1), [SPEC], None, 60.0)
    await capacity.reserve(of("b", "b", 10), [SPEC], None, 60.0)


async def test_clips_of_accepted_jobs_count_until_they_are_scored_or_their_job_has_ended(
    capacity: QueueCapacity, store: JobStore
) -> None:
    jobs = [record(decoded=decoded(windows=35)) for _ in range(2)]
    for job in jobs:
        await capacity.reserve(of("a", job.id, 35), [SPEC], None, 60.0)
        await store.accept(job, reservation=of("a", job.id, 35))
    with pytest.raises(QueueFull, match="70 clips of this caller"):
        await capacity.reserve(of("a", "b", 10), [SPEC], None, 60.0)
    await store.record_scores({(jobs[0].id, clip): scores() for clip in range(10)})
    with pytest.raises(QueueFull, match="60 clips of this caller"):
        await capacity.reserve(of("a", "b", 20), [SPEC], None, 60.0)
    await store.cancel(jobs[0].id)
    await store.finish(jobs[1].id, Outcome(JobState.FAILED, error=BackendFailed("broken")))
    assert await fill(capacity, "a") == 22, "three quarters of the 30 that no entry stands for"


async def test_bytes_of_accepted_jobs_have_their_shares_too(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    capacity = QueueCapacity(
        redis, keys, limits(max_queue_clips=1000, max_queue_bytes=100 * SPEC.clip_bytes, caller_share=0.75)
    )
    job = record(decoded=decoded(windows=70))
    await capacity.reserve(of("a", job.id, 70), [SPEC], None, 60.0)
    await store.accept(job, reservation=of("a", job.id, 70))
    with pytest.raises(QueueFull, match="bytes of clips of this caller"):
        await capacity.reserve(of("a", "more", 10), [SPEC], None, 60.0)


@pytest.mark.parametrize("accepted", [False, True])
async def test_clips_of_another_model_are_none_of_the_share(
    capacity: QueueCapacity, store: JobStore, accepted: bool
) -> None:
    other = spec(name="other")
    job = record(spec=other, decoded=decoded(windows=70))
    held = Reservation(job.id, JobClass.INTERACTIVE, 70, other.clip_bytes, other.name, "a")
    await capacity.reserve(held, [SPEC, other], None, 60.0)
    if accepted:
        await store.accept(job, reservation=held)
    await capacity.reserve(of("b", "b", 60), [SPEC, other], None, 60.0)
    await capacity.reserve(of("a", "a", 20), [SPEC, other], None, 60.0)


async def test_a_job_that_a_worker_of_the_release_before_has_ended_is_held_no_longer(
    capacity: QueueCapacity, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job, held = record(), of("a", "", 1).digest
    await store.accept(job, reservation=of("a", job.id, 1))
    assert await redis.zcard(keys.held(held)) == 1
    await redis.hdel(keys.job(job.id), HOLDS_FIELD)
    await store.cancel(job.id)
    assert await redis.zcard(keys.held(held)) == 1
    await capacity.reserve(of("b", "b", 80), [SPEC], None, 60.0)
    await capacity.reserve(of("a", "a", 1), [SPEC], None, 60.0)
    assert await redis.zcard(keys.held(held)) == 0


async def test_room_that_grows_takes_the_place_of_what_it_was_and_stays_where_it_cannot(
    capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    begun = of("a", "film", 10)
    await capacity.reserve(begun, [SPEC], None, 60.0, most_clips=60)
    await capacity.reserve(of("b", "other", 50), [SPEC], None, 60.0)
    with pytest.raises(QueueFull):
        await capacity.reserve(of("a", "film", 60), [SPEC], None, 60.0, instead=begun)
    assert await redis.zscore(keys.reserved, begun.member) is not None
    await capacity.reserve(of("a", "film", 40), [SPEC], None, 60.0, instead=begun)
    assert await redis.zcard(keys.reserved) == 2


async def test_an_upload_that_could_never_find_room_is_refused_before_it_reserves_any(
    capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    with pytest.raises(QueueFull) as caught:
        await capacity.reserve(of("a", "film", 10), [SPEC], None, 60.0, most_clips=200)
    assert (caught.value.limit, caught.value.actual) == (100, 200)
    assert not await redis.exists(keys.reserved)


async def test_the_clock_of_a_host_does_not_matter(capacity: QueueCapacity, monkeypatch: pytest.MonkeyPatch) -> None:
    await capacity.reserve(of("a", "a", 90), [SPEC], None, 60.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    with pytest.raises(QueueFull):
        await capacity.reserve(of("b", "b", 20), [SPEC], None, 60.0)


async def test_releases_without_shares_read_what_is_reserved(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    """The pattern is that of the script before there were shares."""
    await capacity.reserve(of("key:app", "0" * 32, 7), [SPEC], None, 60.0)
    [member] = members(await redis.zrange(keys.reserved, 0, -1))
    read = redis.register_script("return {ARGV[1]:match('^%w+:(%a+):(%d+):(%d+):(.+)$')}")
    assert await read(args=[member]) == [b"interactive", b"7", str(SPEC.clip_bytes).encode(), b"tiny"]
