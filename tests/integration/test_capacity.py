import pytest
from redis.asyncio import Redis

from service.contracts import JobClass
from service.errors import QueueFull
from service.queue.capacity import MOST_SPREAD_S, CapacityConfig, QueueCapacity, Reservation, retry_after
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import decoded, record, spec

SPEC = spec()
INTERACTIVE, BULK = JobClass.INTERACTIVE, JobClass.BULK


def limits(**changes: float) -> CapacityConfig:
    values = {
        "max_queue_clips": 10,
        "max_queue_bytes": 1_000_000,
        "max_wait_share": 0.5,
        "reservation_ttl_s": 30.0,
        "worker_interactive_weight": 4,
    }
    return CapacityConfig(**{**values, **changes})  # type: ignore[arg-type]


def wanted(job_id: str, clips: int, job_class: JobClass = INTERACTIVE) -> Reservation:
    return Reservation(job_id, job_class, clips, SPEC.clip_bytes, SPEC.name)


async def test_reservations_and_waiting_clips_share_the_limit(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    capacity = QueueCapacity(redis, keys, limits())
    await store.accept(record(decoded=decoded(windows=4)))
    await capacity.reserve(wanted("a", 4), [SPEC], None, 60.0)
    with pytest.raises(QueueFull) as caught:
        await capacity.reserve(wanted("b", 3), [SPEC], None, 60.0)
    assert (caught.value.limit, caught.value.actual) == (10, 11)
    await capacity.reserve(wanted("b", 2), [SPEC], None, 60.0)


async def test_room_that_is_released_is_free_again(redis: Redis, keys: RedisKeys) -> None:
    capacity = QueueCapacity(redis, keys, limits())
    await capacity.reserve(wanted("a", 10), [SPEC], None, 60.0)
    await capacity.release(wanted("a", 10))
    await capacity.reserve(wanted("c", 7), [SPEC], None, 60.0)


async def test_room_passes_to_the_entries_of_an_accepted_job(redis: Redis, keys: RedisKeys, store: JobStore) -> None:
    capacity = QueueCapacity(redis, keys, limits())
    await capacity.reserve(wanted("a", 6), [SPEC], None, 60.0)
    await store.accept(record(decoded=decoded(windows=6)), reservation=wanted("a", 6))
    await capacity.reserve(wanted("b", 4), [SPEC], None, 60.0)


async def test_room_of_an_api_that_died_lapses(redis: Redis, keys: RedisKeys) -> None:
    await QueueCapacity(redis, keys, limits(reservation_ttl_s=-1.0)).reserve(wanted("dead", 10), [SPEC], None, 60.0)
    await QueueCapacity(redis, keys, limits()).reserve(wanted("b", 10), [SPEC], None, 60.0)


async def test_room_that_is_renewed_does_not_lapse(redis: Redis, keys: RedisKeys) -> None:
    await QueueCapacity(redis, keys, limits(reservation_ttl_s=-1.0)).reserve(wanted("slow", 10), [SPEC], None, 60.0)
    capacity = QueueCapacity(redis, keys, limits())
    await capacity.renew([wanted("slow", 10)])
    with pytest.raises(QueueFull):
        await capacity.reserve(wanted("b", 1), [SPEC], None, 60.0)


async def test_bytes_of_all_models_count(redis: Redis, keys: RedisKeys) -> None:
    capacity = QueueCapacity(redis, keys, limits(max_queue_bytes=8 * SPEC.clip_bytes))
    other = spec(name="other")
    await capacity.reserve(Reservation("a", BULK, 6, other.clip_bytes, "other"), [SPEC, other], None, 60.0)
    with pytest.raises(QueueFull, match="bytes"):
        await capacity.reserve(wanted("b", 3), [SPEC, other], None, 60.0)


async def test_queued_clips_of_another_model_count_as_bytes_and_not_as_clips(
    redis: Redis, keys: RedisKeys, store: JobStore
) -> None:
    other = spec(name="other")
    capacity = QueueCapacity(redis, keys, limits(max_queue_bytes=12 * SPEC.clip_bytes))
    await store.accept(record(spec=other, decoded=decoded(windows=8)))
    await capacity.reserve(wanted("a", 4), [SPEC, other], None, 60.0)
    with pytest.raises(QueueFull, match="bytes"):
        await capacity.reserve(wanted("b", 1), [SPEC, other], None, 60.0)


async def test_reserved_clips_of_another_model_are_not_ahead(redis: Redis, keys: RedisKeys) -> None:
    capacity, other = QueueCapacity(redis, keys, limits()), spec(name="other")
    await capacity.reserve(Reservation("a", INTERACTIVE, 8, other.clip_bytes, "other"), [SPEC, other], None, 60.0)
    await capacity.reserve(wanted("b", 8), [SPEC, other], None, 60.0)


async def test_a_wait_too_long_for_the_deadline_is_refused_until_the_queue_has_drained(
    redis: Redis, keys: RedisKeys
) -> None:
    """At 1 clip per second a bulk job with 10 s to live may have 5 clips up to its own end."""
    capacity = QueueCapacity(redis, keys, limits())
    await capacity.reserve(wanted("a", 4, BULK), [SPEC], 1.0, 10.0)
    with pytest.raises(QueueFull, match="would miss its deadline") as caught:
        await capacity.reserve(wanted("b", 4, BULK), [SPEC], 1.0, 10.0)
    assert 3.0 <= (caught.value.retry_after_s or 0.0) <= 5.0


def test_those_who_are_refused_come_back_once_there_is_room_and_not_all_at_once() -> None:
    """At 10 clips per second the 30 that are too many take 3 s, and the 80 ahead are spread over half of their 8 s."""
    found = [retry_after(30.0, 80, 10.0) for _ in range(500)]
    assert 3.0 <= min(found) < 4.0
    assert 6.0 < max(found) <= 7.0


def test_nobody_is_told_to_come_back_within_a_second_or_much_later_than_there_is_room() -> None:
    assert all(1.0 <= retry_after(1.0, 0, 100.0) <= 1.0 for _ in range(100))
    assert all(retry_after(1.0, 100_000, 10.0) <= 1.0 + MOST_SPREAD_S for _ in range(100))


async def test_interactive_jobs_do_not_wait_for_bulk_ones(redis: Redis, keys: RedisKeys) -> None:
    capacity = QueueCapacity(redis, keys, limits(max_queue_clips=100))
    await capacity.reserve(wanted("film", 60, BULK), [SPEC], None, 10.0)
    await capacity.reserve(wanted("clip", 2), [SPEC], 1.0, 10.0)


async def test_a_job_that_nobody_goes_before_is_never_refused_for_its_wait(redis: Redis, keys: RedisKeys) -> None:
    await QueueCapacity(redis, keys, limits()).reserve(wanted("a", 8), [SPEC], 0.1, 10.0)
