"""Jobs in stages: their first clips are queued while the others are still to come."""

import pytest
from redis.asyncio import Redis

from service.contracts import DeadLetter, JobClass, JobRecord, JobState
from service.errors import BackendFailed, QueueFull, QueueUnavailable, UnknownJob
from service.queue.capacity import QueueCapacity, Reservation
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetters
from service.queue.job_intake import Stage
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record, scores, spec
from tests.fixtures.keyspace import miscounted
from tests.fixtures.replies import entries, mapping, members
from tests.integration.conftest import LETTERS, TIMES, waiting
from tests.integration.test_capacity import limits

SPEC = spec()
CLIPS = 6
FAILED = Outcome(JobState.FAILED, error=BackendFailed("x"))


@pytest.fixture
def capacity(redis: Redis, keys: RedisKeys) -> QueueCapacity:
    return QueueCapacity(redis, keys, limits(max_queue_clips=10, caller_share=0.75))


def planned() -> JobRecord:
    return record(decoded=decoded(windows=CLIPS, coverage=0.5))


def room(job: JobRecord, clips: int) -> Reservation:
    return Reservation(job.id, JobClass.INTERACTIVE, clips, SPEC.clip_bytes, SPEC.name, "ann")


def pixels(first: int, after: int) -> memoryview:
    return memoryview(b"".join(clip(i) for i in range(first, after)))


def letter_of(job: JobRecord) -> DeadLetter:
    return DeadLetter(
        job_id=job.id,
        clip=0,
        code="backend_failed",
        detail="x",
        model="tiny",
        version="1",
        deliveries=3,
        created_at=0.0,
        clip_bytes=SPEC.clip_bytes,
    )


async def begin(store: JobStore, capacity: QueueCapacity, job: JobRecord, queued: int = 2) -> None:
    await capacity.reserve(room(job, 8), [SPEC], None, 60.0)
    stage = Stage(queued, room(job, CLIPS - queued))
    await store.accept(job, clips=pixels(0, queued), reservation=room(job, 8), stage=stage)


async def go_on(store: JobStore, job: JobRecord, first: int, after: int) -> bool:
    stage = Stage(after, room(job, CLIPS - after)) if after < CLIPS else None
    return await store.add_clips(
        job, pixels(first, after), first=first, reservation=room(job, CLIPS - first), stage=stage
    )


async def reserved(redis: Redis, keys: RedisKeys) -> list[str]:
    found = [member.decode() for member in members(await redis.zrange(keys.reservations, 0, -1))]
    counts = mapping(await redis.hgetall(keys.reservation_counts))
    assert miscounted(found, {name.decode(): int(value) for name, value in counts.items()}) == {}
    assert found == [member.decode() for member in members(await redis.zrange(keys.reserved, 0, -1))]
    return found


async def stored(redis: Redis, keys: RedisKeys, job: JobRecord) -> list[int]:
    return [i for i in range(CLIPS) if await redis.exists(keys.payload(job.id, i))]


async def held(redis: Redis, keys: RedisKeys) -> list[str]:
    return [member.decode() for member in members(await redis.zrange(keys.held(room(planned(), 1).digest), 0, -1))]


async def events_of(redis: Redis, keys: RedisKeys, job: JobRecord) -> list[tuple[bytes, bytes]]:
    return [(fields[b"state"], fields[b"done"]) for _, fields in entries(await redis.xrange(keys.events(job.id)))]


async def test_a_job_in_stages_has_all_its_clips_to_do_and_some_of_them_queued(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert (await store.status(job.id)).clips_total == CLIPS
    assert await waiting(redis, keys) == 2
    assert await stored(redis, keys, job) == [0, 1]


async def test_what_is_not_queued_stays_reserved_and_what_is_does_not(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert await reserved(redis, keys) == [room(job, 4).member]
    assert await go_on(store, job, 2, 5)
    assert await reserved(redis, keys) == [room(job, 1).member]
    assert await go_on(store, job, 5, 6)
    assert await reserved(redis, keys) == []
    assert await waiting(redis, keys) == CLIPS


async def test_the_clips_to_come_keep_others_out_of_a_full_queue(store: JobStore, capacity: QueueCapacity) -> None:
    job = planned()
    await begin(store, capacity, job)
    other = Reservation("b" * 32, JobClass.INTERACTIVE, 5, SPEC.clip_bytes, SPEC.name)
    with pytest.raises(QueueFull):
        await capacity.reserve(other, [SPEC], None, 60.0)


async def test_the_caller_holds_what_is_queued_of_its_job(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert await held(redis, keys) == [f"{job.id}:2:{SPEC.clip_bytes}:{SPEC.name}"]
    await redis.hset(keys.held_sums(room(job, 1).digest), mapping={"bytes": 10, f"={SPEC.name}": 1})
    await go_on(store, job, 2, 5)
    assert await held(redis, keys) == [f"{job.id}:5:{SPEC.clip_bytes}:{SPEC.name}"]
    sums = mapping(await redis.hgetall(keys.held_sums(room(job, 1).digest)))
    assert sums == {b"bytes": b"%d" % (10 + 3 * SPEC.clip_bytes), f"={SPEC.name}".encode(): b"4"}
    await redis.delete(keys.held_sums(room(job, 1).digest))
    assert await redis.ttl(keys.held(room(job, 1).digest)) > TIMES.payload_ttl_s
    await store.finish(job.id, FAILED)
    assert await held(redis, keys) == []


async def test_a_job_in_stages_does_not_end_before_its_last_clip_came(store: JobStore, capacity: QueueCapacity) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert await store.record_scores({(job.id, i): scores() for i in (0, 1)}) == []
    await go_on(store, job, 2, 5)
    assert await store.record_scores({(job.id, i): scores() for i in (2, 3, 4)}) == []
    await go_on(store, job, 5, 6)
    assert [found.id for found in await store.record_scores({(job.id, 5): scores()})] == [job.id]


async def test_the_answer_is_made_of_the_record_that_comes_last(store: JobStore, capacity: QueueCapacity) -> None:
    job = planned()
    final = job.model_copy(update={"decoded": decoded(windows=CLIPS, coverage=0.75)})
    await begin(store, capacity, job)
    await go_on(store, final, 2, 4)
    assert (await store.record(job.id)) == job.model_copy(update={"spec": SPEC.job_model})
    await go_on(store, final, 4, 6)
    assert (await store.record(job.id)) == final.model_copy(update={"spec": SPEC.job_model})


async def test_clips_live_as_long_as_those_of_any_job_once_they_are_queued(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await go_on(store, job, 2, 6)
    assert await stored(redis, keys, job) == list(range(CLIPS))
    assert [await redis.get(keys.payload(job.id, i)) for i in range(CLIPS)] == [clip(i) for i in range(CLIPS)]
    assert min([await redis.ttl(keys.payload(job.id, i)) for i in range(CLIPS)]) > TIMES.reservation_ttl_s


async def test_a_stage_queues_for_a_route_whose_streams_were_cleared_meanwhile(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await redis.delete(keys.routes)
    await go_on(store, job, 2, 4)
    assert await redis.zscore(keys.routes, SPEC.name) == 0


@pytest.mark.parametrize("after", [4, 6])
async def test_a_stage_that_is_sent_again_queues_nothing_twice(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys, after: int
) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert await go_on(store, job, 2, after)
    before = await reserved(redis, keys)
    assert await go_on(store, job, 2, after)
    assert await waiting(redis, keys) == after
    assert await reserved(redis, keys) == before


async def test_clips_of_a_job_that_has_ended_are_not_queued_or_kept(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await store.finish(job.id, FAILED)
    assert not await go_on(store, job, 2, 4)
    assert await waiting(redis, keys) == 2
    assert await stored(redis, keys, job) == [0, 1]
    await store.cancel(job.id)
    assert not await go_on(store, job, 2, 4)
    assert await stored(redis, keys, job) == []


async def test_clips_of_an_unknown_job_are_not_kept(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = planned()
    assert not await go_on(store, job, 2, 4)
    assert await stored(redis, keys, job) == []
    with pytest.raises(UnknownJob):
        await store.status(job.id)


async def test_a_stage_whose_clips_have_lapsed_is_refused_and_queues_none_of_them(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned()
    await begin(store, capacity, job)
    put = store.put_payloads

    async def put_and_lose(*args: object) -> None:
        await put(*args)  # type: ignore[arg-type]
        await redis.delete(keys.payload(job.id, 3))

    monkeypatch.setattr(store, "put_payloads", put_and_lose)
    with pytest.raises(QueueUnavailable, match="delayed for longer"):
        await go_on(store, job, 2, 4)
    assert await waiting(redis, keys) == 2
    assert await reserved(redis, keys) == [room(job, 4).member]


async def test_what_stays_reserved_is_renewed_until_the_job_ends(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await store.put_payloads(job.id, pixels(2, 3), SPEC.clip_bytes, 1.0, 2)
    await redis.zadd(keys.reservations, {room(job, 4).member: 1.0})
    await capacity.renew([room(job, 4)])
    assert float(await redis.zscore(keys.reservations, room(job, 4).member) or 0) > 1.0
    assert 1 < await redis.ttl(keys.payload(job.id, 2)) <= TIMES.reservation_ttl_s
    assert await redis.ttl(keys.payload(job.id, 1)) > TIMES.reservation_ttl_s
    await redis.zadd(keys.reservations, {room(job, 4).member: 1.0})
    await store.finish(job.id, FAILED)
    await capacity.renew([room(job, 4)])
    assert await redis.zscore(keys.reservations, room(job, 4).member) == 1.0
    assert await reserved(redis, keys)
    await capacity.release(room(job, 4))


async def test_a_reservation_keeps_the_time_at_which_it_lapses(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    lapses = await redis.zscore(keys.reservations, room(job, 4).member)
    await go_on(store, job, 2, 4)
    assert await redis.zscore(keys.reservations, room(job, 2).member) == lapses


async def test_a_stage_after_the_reservation_has_lapsed_reserves_nothing(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await capacity.drop([room(job, 4)])
    assert await go_on(store, job, 2, 4)
    assert await reserved(redis, keys) == []


async def test_giving_up_a_job_in_stages_deletes_the_clips_that_are_not_queued_alone(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    await store.put_payloads(job.id, pixels(2, 6), SPEC.clip_bytes, 20.0, 2)
    await capacity.release(room(job, 4))
    assert await stored(redis, keys, job) == [0, 1]
    assert await reserved(redis, keys) == []


async def test_a_job_that_dies_before_all_its_clips_came_fails_without_a_letter(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job, queued=5)
    await store.put_payloads(job.id, pixels(5, 6), SPEC.clip_bytes, 20.0, 5)
    dead = DeadLetters(redis, keys, TIMES, LETTERS)
    await store.record_scores({(job.id, 1): scores()})
    await redis.expire(keys.job(job.id), 10 * TIMES.tombstone_ttl_s)
    assert await dead.add(letter_of(job), FAILED)
    assert await dead.letters() == []
    assert (await store.status(job.id)).status is JobState.FAILED
    assert await stored(redis, keys, job) == []
    assert not await redis.exists(keys.scores(job.id))
    assert 0 < await redis.ttl(keys.job(job.id)) <= TIMES.tombstone_ttl_s
    assert (await events_of(redis, keys, job))[-1] == (b"failed", b"1")


async def test_the_last_stage_that_is_sent_again_leaves_the_clips_of_a_dead_letter(
    store: JobStore, capacity: QueueCapacity, redis: Redis, keys: RedisKeys
) -> None:
    job = planned()
    await begin(store, capacity, job)
    assert await go_on(store, job, 2, CLIPS)
    dead = DeadLetters(redis, keys, TIMES, LETTERS)
    assert await dead.add(letter_of(job), FAILED)
    assert await go_on(store, job, 2, CLIPS)
    assert await stored(redis, keys, job) == list(range(CLIPS))
    await dead.replay(job.id)
    assert (await store.status(job.id)).status is JobState.QUEUED
