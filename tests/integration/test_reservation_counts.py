"""Reservations are counted in the step that changes them, beside processes of the release before, which list them."""

import asyncio
import random
import time

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.contracts import JobClass, JobState
from service.errors import BackendFailed, QueueFull
from service.queue import scripts
from service.queue.capacity import QueueCapacity, Reservation
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import decoded, record, spec
from tests.fixtures.keyspace import miscounted
from tests.fixtures.replies import mapping, members, with_scores
from tests.integration.conftest import TIMES, give_up
from tests.integration.test_capacity import limits

SPEC = spec()
DIGEST = Reservation("", JobClass.BULK, 0, 0, "", "a").digest
FAILED = Outcome(JobState.FAILED, error=BackendFailed("x"))


def of(caller: str, job_id: str, clips: int, job_class: JobClass = JobClass.INTERACTIVE) -> Reservation:
    return Reservation(job_id, job_class, clips, SPEC.clip_bytes, SPEC.name, caller)


@pytest.fixture
def capacity(redis: Redis, keys: RedisKeys) -> QueueCapacity:
    return QueueCapacity(redis, keys, limits(max_queue_clips=1000, caller_share=0.75))


async def wrong(redis: Redis, keys: RedisKeys) -> dict[str, tuple[int, int]]:
    held = [member.decode() for member in members(await redis.zrange(keys.reservations, 0, -1))]
    counts = mapping(await redis.hgetall(keys.reservation_counts))
    return miscounted(held, {name.decode(): int(value) for name, value in counts.items()})


async def test_whatever_is_reserved_and_released_in_whatever_order_is_counted_right(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity, store: JobStore
) -> None:
    draw, held = random.Random(0), list[Reservation]()
    for number in range(200):
        one = of(draw.choice(["", "a", "b"]), f"{number:032x}", draw.randint(1, 3), draw.choice(list(JobClass)))
        match draw.randrange(5) if held else 0:
            case 0:
                await capacity.reserve(one, [SPEC], None, 60.0)
                held.append(one)
            case 1:
                await capacity.release(held.pop(draw.randrange(len(held))))
            case 2:
                grown = of(held[0].caller, held[0].job_id, held[0].clips + 1, held[0].job_class)
                await capacity.reserve(grown, [SPEC], None, 60.0, instead=held[0])
                held[0] = grown
            case 3:
                await capacity.renew(held)
                await capacity.drop([held.pop(), one])
            case _:
                job = record(id=held[0].job_id, job_class=held[0].job_class)
                await store.accept(job, reservation=held.pop(0))
        assert await wrong(redis, keys) == {}
    assert {member.decode() for member in members(await redis.zrange(keys.reservations, 0, -1))} == {
        r.member for r in held
    }
    assert await redis.zrange(keys.reserved, 0, -1) == await redis.zrange(keys.reservations, 0, -1)
    for one in held:
        await capacity.release(one)
    assert not await redis.exists(keys.reservations, keys.reserved)
    assert {*((await redis.hgetall(keys.reservation_counts)).values())} == {b"0"}


async def test_capacity_that_lapses_is_counted_no_longer_a_hundred_at_a_time(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    lapsing = [of("a", f"{number:x}", 1) for number in range(150)]
    for one in lapsing:
        await capacity.reserve(one, [SPEC], None, 60.0)
    for key in (keys.reservations, keys.reserved):
        await redis.zadd(key, dict.fromkeys([one.member for one in lapsing], time.time() - 1))
    assert [await full(capacity, 1000 - left) for left in (49, 49)] == [True, False]
    assert await wrong(redis, keys) == {}
    assert await redis.zcard(keys.reserved) == await redis.zcard(keys.reservations) == 1


async def full(capacity: QueueCapacity, clips: int) -> bool:
    """Whether so many clips more are refused; else they are reserved."""
    try:
        await capacity.reserve(of("", "ab", clips), [SPEC], None, 60.0)
    except QueueFull:
        return True
    return False


async def test_what_a_process_of_the_release_before_reserves_counts_until_it_is_released(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    theirs = [of("a", f"{number:x}", 300).member for number in range(3)]
    await redis.zadd(keys.reserved, dict.fromkeys(theirs, time.time() + 60))
    await capacity.reserve(of("b", "ours", 50), [SPEC], None, 60.0)
    with pytest.raises(QueueFull, match="950 clips are in flight") as caught:
        await capacity.reserve(of("b", "more", 51), [SPEC], None, 60.0)
    assert caught.value.actual == 1001
    with pytest.raises(QueueFull, match="900 clips of this caller"):
        await capacity.reserve(of("a", "mine", 50), [SPEC], None, 60.0)
    await redis.zrem(keys.reserved, *theirs)
    await capacity.reserve(of("b", "more", 51), [SPEC], None, 60.0)
    assert await wrong(redis, keys) == {}


async def test_what_a_process_of_the_release_before_reserves_of_another_model_counts_as_bytes_alone(
    redis: Redis, keys: RedisKeys
) -> None:
    theirs = Reservation("theirs", JobClass.INTERACTIVE, 900, SPEC.clip_bytes, "other", "a")
    await redis.zadd(keys.reserved, {theirs.member: time.time() + 60})
    for clips_of_bytes, refused in ((1400, "bytes"), (1600, "bytes of clips of this caller"), (10_000, None)):
        few = limits(max_queue_clips=1000, max_queue_bytes=clips_of_bytes * SPEC.clip_bytes, caller_share=0.75)
        reserving = QueueCapacity(redis, keys, few).reserve(of("a", f"{clips_of_bytes:x}", 600), [SPEC], None, 60.0)
        if refused is None:
            await reserving
        else:
            with pytest.raises(QueueFull, match=refused):
                await reserving


async def test_what_a_process_of_the_release_before_has_let_lapse_counts_no_longer_and_leaves(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    await redis.zadd(keys.reserved, {of("a", "lapsed", 900).member: time.time() - 1})
    await capacity.reserve(of("b", "all", 1000), [SPEC], None, 60.0)
    assert await redis.zrange(keys.reserved, 0, -1) == [of("b", "all", 1000).member.encode()]


@pytest.mark.parametrize("where", ["reserved", "reservations"])
async def test_a_member_that_no_release_writes_is_passed_over(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity, where: str
) -> None:
    await redis.zadd(getattr(keys, where), {"of another form": time.time() + 60})
    await capacity.reserve(of("a", "one", 600), [SPEC], None, 60.0)
    with pytest.raises(QueueFull, match="600 clips are in flight"):
        await capacity.reserve(of("b", "two", 500), [SPEC], None, 60.0)


async def test_a_process_of_the_release_before_that_removes_what_has_lapsed_does_not_change_the_counts(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    brief = QueueCapacity(redis, keys, limits(max_queue_clips=1000, reservation_ttl_s=0.05))
    await brief.reserve(of("a", "brief", 900), [SPEC], None, 60.0)
    await asyncio.sleep(0.1)
    await redis.zremrangebyscore(keys.reserved, "-inf", time.time())
    await capacity.reserve(of("b", "all", 1000), [SPEC], None, 60.0)
    assert await wrong(redis, keys) == {}


@pytest.mark.parametrize("lost", ["counts", "reservations"])
async def test_counts_that_do_not_fit_the_reservations_are_made_anew(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity, lost: str
) -> None:
    await capacity.reserve(of("a", "one", 600), [SPEC], None, 60.0)
    await redis.delete(keys.reservation_counts if lost == "counts" else keys.reservations)
    with pytest.raises(QueueFull, match="600 clips are in flight"):
        await capacity.reserve(of("b", "two", 500), [SPEC], None, 60.0)
    assert await wrong(redis, keys) == {}


async def test_an_audit_reports_and_repairs_what_is_counted_wrong(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    await capacity.reserve(of("a", "one", 600), [SPEC], None, 60.0)
    assert await capacity.audit() == 0
    await redis.hincrby(keys.reservation_counts, "bytes", 1)
    await redis.hincrby(keys.reservation_counts, "bulk:other", 5)
    await redis.hdel(keys.reservation_counts, "members")
    assert await capacity.audit() == 3
    assert await wrong(redis, keys) == {}
    assert await capacity.audit() == 0


async def test_one_process_audits_what_is_reserved_and_says_what_was_wrong(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity
) -> None:
    other = QueueCapacity(redis, keys, limits())
    await capacity.audit_in_turn()
    await redis.hset(keys.reservation_counts, "bytes", 1)
    await other.audit_in_turn()
    assert await wrong(redis, keys) == {"bytes": (1, 0)}
    await capacity._auditing.end()
    late = QueueCapacity(redis, keys, limits())
    with capture_logs() as logged:
        await late.audit_in_turn()
    assert [(line["event"], line["counts"]) for line in logged] == [("reservations_miscounted", 1)]
    assert await wrong(redis, keys) == {}


@pytest.mark.parametrize("end", ["finish", "cancel", "dead letter"])
async def test_a_job_is_let_go_when_it_ends_and_held_again_by_a_replay(
    redis: Redis, keys: RedisKeys, capacity: QueueCapacity, store: JobStore, dead: DeadLetters, end: str
) -> None:
    job = record(decoded=decoded(windows=2))
    reservation = of("a", job.id, 2)
    await store.put_payloads(job.id, bytes(2 * SPEC.clip_bytes), SPEC.clip_bytes)
    await store.accept(job, reservation=reservation)
    held = with_scores(await redis.zrange(keys.held(reservation.digest), 0, -1, withscores=True))
    assert [member for member, _ in held] == [f"{job.id}:2:{SPEC.clip_bytes}:tiny".encode()]
    if end == "finish":
        await store.finish(job.id, FAILED)
    elif end == "cancel":
        await store.cancel(job.id)
    else:
        await give_up(dead, job)
    assert not await redis.exists(keys.held(reservation.digest))
    if end == "dead letter":
        assert await dead.replay(job.id) == 2
        [(member, deadline)] = with_scores(await redis.zrange(keys.held(reservation.digest), 0, -1, withscores=True))
        assert (member, deadline) == (held[0][0], await redis.zscore(keys.deadlines, job.id))
        assert 0 < await redis.ttl(keys.held(reservation.digest))


async def test_a_replay_does_not_shorten_the_life_of_what_its_caller_holds(
    redis: Redis, keys: RedisKeys, store: JobStore, dead: DeadLetters
) -> None:
    job = record()
    reservation = of("a", job.id, 1)
    await store.put_payloads(job.id, bytes(SPEC.clip_bytes), SPEC.clip_bytes)
    await store.accept(job, reservation=reservation)
    await give_up(dead, job)
    held, longer = keys.held(reservation.digest), int(10 * TIMES.payload_ttl_s)
    await redis.zadd(held, {f"another:1:{SPEC.clip_bytes}:tiny": time.time() + longer})
    await redis.expire(held, longer)

    assert await dead.replay(job.id) == 1

    assert await redis.ttl(held) > TIMES.payload_ttl_s


async def test_the_sums_of_many_jobs_of_a_caller_are_kept_for_a_millisecond_for_twenty_jobs(
    redis: Redis, keys: RedisKeys, store: JobStore
) -> None:
    # Within one script no time passes.
    look = redis.register_script(
        scripts.source("include/held_jobs")
        + """
        local clips, bytes = held_jobs(KEYS[1], KEYS[2], KEYS[3], ARGV[1], 'tiny')
        return {clips, bytes, redis.call('PTTL', KEYS[2]), redis.call('HGETALL', KEYS[2])}"""
    )
    names = [keys.held(DIGEST), keys.held_sums(DIGEST), keys.deadlines]
    for number in range(65):
        job = record(spec=spec(name="other")) if number % 2 else record()
        held = Reservation(job.id, JobClass.INTERACTIVE, 1, SPEC.clip_bytes, job.spec.name, "a")
        await store.accept(job, reservation=held)
        if number == 63:
            assert await look(names, [keys.scores("")]) == [32, 64 * SPEC.clip_bytes, -2, []]
    size = str(65 * SPEC.clip_bytes).encode()
    clips, in_bytes, life_ms, kept = await look(names, [keys.scores("")])
    assert (clips, in_bytes, life_ms) == (33, 65 * SPEC.clip_bytes, 4)
    assert dict(zip(kept[::2], kept[1::2], strict=True)) == {b"bytes": size, b"=tiny": b"33", b"=other": b"32"}


async def test_sums_that_are_kept_grow_with_the_jobs_that_are_accepted_meanwhile(
    redis: Redis, keys: RedisKeys, store: JobStore
) -> None:
    capacity = QueueCapacity(redis, keys, limits(max_queue_clips=400, caller_share=0.75))
    sums = keys.held_sums(DIGEST)
    await redis.zadd(keys.reserved, {of("b", "others", 320).member: time.time() + 60})
    await redis.hset(sums, mapping={"bytes": 65 * SPEC.clip_bytes, "=tiny": 65})
    await redis.pexpire(sums, 60_000)
    job = record(decoded=decoded(windows=3))
    await store.accept(job, reservation=of("a", job.id, 3))
    with pytest.raises(QueueFull, match="68 clips of this caller"):
        await capacity.reserve(of("a", "more", 50), [SPEC], None, 60.0)
    assert await redis.hget(sums, "bytes") == str(68 * SPEC.clip_bytes).encode()
    await redis.delete(sums)
    with pytest.raises(QueueFull, match="3 clips of this caller"):
        await capacity.reserve(of("a", "more", 75), [SPEC], None, 60.0)
