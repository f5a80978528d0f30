import asyncio
from collections.abc import Iterable

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobState
from service.errors import BackendFailed
from service.queue.clip_entries import ClipEntry
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.redis_keys import GROUP, RedisKeys
from service.worker.leases import Leases
from testing.factories import clip, decoded, record, scores, spec


async def test_entries_say_which_clip_of_which_job_they_are(store: JobStore, stream: ClipStream) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    entries = await stream.read(["tiny"], 8, 10)
    assert [(e.job_id, e.clip, e.model, e.version, e.shape) for e in entries] == [
        (job.id, 0, "tiny", "1", (4, 8, 8, 3)),
        (job.id, 1, "tiny", "1", (4, 8, 8, 3)),
    ]
    assert entries[0].deadline_at == job.deadline_at


async def test_work_enqueued_before_any_worker_came_is_served(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    await store.accept(record())
    late = ClipStream(redis, keys, "late")
    await late.join(["tiny"])
    assert len(await late.read(["tiny"], 8, 10)) == 1


async def test_a_read_takes_no_more_than_it_asked_for(store: JobStore, stream: ClipStream) -> None:
    await store.accept(record(decoded=decoded(windows=5)))
    assert [len(await stream.read(["tiny"], 2, 10)) for _ in range(4)] == [2, 2, 1, 0]


async def test_two_workers_never_read_the_same_entry(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    other = ClipStream(redis, keys, "two")
    await store.accept(record(decoded=decoded(windows=6)))
    taken = [e.clip for s in (stream, other, stream) for e in await s.read(["tiny"], 2, 10)]
    assert sorted(taken) == [0, 1, 2, 3, 4, 5]


async def test_payloads_come_in_the_order_of_the_entries_and_a_lost_one_is_none(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=3))
    await store.put_payloads(job.id, memoryview(clip(0) + clip(1) + clip(2)), len(clip(0)))
    await redis.delete(keys.payload(job.id, 1))
    await store.accept(job)
    entries = await stream.read(["tiny"], 8, 10)
    assert [state.payload for state in await stream.look_up(entries[::-1])] == [clip(2), None, clip(0)]


async def test_acknowledged_work_leaves_the_stream_and_its_payload_goes_once_it_has_scores(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=3))
    await store.put_payloads(job.id, memoryview(clip(0) * 3), len(clip(0)))
    await store.accept(job)
    await store.record_scores({(job.id, 1): scores()})
    await redis.set(keys.payload(job.id, 1), clip(0), ex=60)
    await stream.ack(await stream.read(["tiny"], 8, 10))
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == 0
    assert [await redis.exists(keys.payload(job.id, number)) for number in range(3)] == [1, 0, 1]


async def test_acknowledged_work_of_a_job_that_has_ended_frees_its_payload(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = record()
    await store.put_payloads(job.id, memoryview(clip(0)), len(clip(0)))
    await store.accept(job)
    await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("the network said no")))
    await stream.ack(await stream.read(["tiny"], 8, 10))
    assert not await redis.exists(keys.payload(job.id, 0))


async def test_acknowledged_work_of_a_job_that_is_gone_frees_its_payload(
    stream: ClipStream, store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = record()
    await store.put_payloads(job.id, memoryview(clip(0)), len(clip(0)))
    await store.accept(job)
    entries = await stream.read(["tiny"], 8, 10)
    await redis.delete(keys.job(job.id))
    await stream.ack(entries)
    assert not await redis.exists(keys.payload(job.id, 0))


async def test_work_left_by_a_dead_worker_is_taken_over_with_its_delivery_count(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record())
    await stream.read(["tiny"], 8, 10)
    other = ClipStream(redis, keys, "two")
    [entry] = await other.reclaim("tiny", 0.0, 8)
    assert entry.deliveries == 2


async def test_work_in_progress_is_not_taken_over_before_its_lease_ends(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record())
    await stream.read(["tiny"], 8, 10)
    assert await ClipStream(redis, keys, "two").reclaim("tiny", 60.0, 8) == []


async def test_work_given_back_is_taken_over_at_once_and_without_blame(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=3)))
    await stream.nack(await stream.read(["tiny"], 8, 10))
    taken = await ClipStream(redis, keys, "two").reclaim("tiny", 60.0, 8)
    assert [(entry.clip, entry.deliveries) for entry in taken] == [(0, 1), (1, 1), (2, 1)]


async def test_work_given_back_with_blame_goes_out_alone(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=3)))
    await stream.nack(await stream.read(["tiny"], 8, 10), failed=True)
    other = ClipStream(redis, keys, "two")
    taken = [await other.reclaim("tiny", 60.0, 8) for _ in range(4)]
    assert [[(entry.clip, entry.deliveries) for entry in batch] for batch in taken] == [
        [(0, 2)],
        [(1, 2)],
        [(2, 2)],
        [],
    ]


async def test_of_work_given_back_a_worker_takes_what_it_can_score_and_what_is_over(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    jobs = [record(spec=spec(version=version)) for version in ("1", "2", "3")]
    for job in jobs:
        await store.accept(job)
    await stream.nack(await stream.read(["tiny"], 8, 10))
    await store.cancel(jobs[2].id)
    taken = await ClipStream(redis, keys, "two").reclaim("tiny", 60.0, 8, [spec(version="1")])
    assert [entry.job_id for entry in taken] == [jobs[0].id, jobs[2].id]


async def test_the_stream_survives_a_redis_that_forgot_the_group(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await redis.delete(keys.clips("tiny", JobClass.INTERACTIVE))
    assert await stream.read(["tiny"], 8, 10) == []
    await store.accept(record())
    assert len(await stream.read(["tiny"], 8, 10)) == 1


async def test_an_empty_stream_yields_nothing_once_the_wait_is_over(stream: ClipStream) -> None:
    assert await stream.read(["tiny"], 8, 50) == []


async def test_leaving_deletes_an_idle_consumer_and_keeps_one_that_holds_work(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record())
    entries = await stream.read(["tiny"], 8, 10)
    await stream.leave(["tiny"])
    assert len(await redis.xinfo_consumers(keys.clips("tiny", JobClass.INTERACTIVE), GROUP)) == 1
    await stream.ack(entries)
    await stream.leave(["tiny"])
    assert len(await redis.xinfo_consumers(keys.clips("tiny", JobClass.INTERACTIVE), GROUP)) == 0


async def test_classes_are_separate_streams(store: JobStore, stream: ClipStream) -> None:
    await store.accept(record(job_class=JobClass.BULK))
    assert (await stream.take([(JobClass.INTERACTIVE, "tiny", 8)])).entries == []
    [entry] = (await stream.take([(JobClass.BULK, "tiny", 8)])).entries
    assert entry.job_class is JobClass.BULK


async def test_entries_come_from_the_first_stream_where_any_wait(store: JobStore, stream: ClipStream) -> None:
    order = [(JobClass.INTERACTIVE, "tiny", 8), (JobClass.BULK, "tiny", 3)]
    await store.accept(record(decoded=decoded(windows=5), job_class=JobClass.BULK))
    await store.accept(record(decoded=decoded(windows=2)))
    taken = [(await stream.take(order)).entries for _ in range(4)]
    assert [[entry.job_class for entry in entries] for entries in taken] == [
        2 * [JobClass.INTERACTIVE],
        3 * [JobClass.BULK],
        2 * [JobClass.BULK],
        [],
    ]


async def test_what_comes_along_with_entries_is_what_looking_them_up_gives(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    jobs = [record(decoded=decoded(windows=2)) for _ in range(5)]
    for job in jobs:
        await store.accept(job, clips=memoryview(clip(0) + clip(1)))
    open_, partly, finished, faulty, lost = [job.id for job in jobs]
    await store.record_scores({(partly, 1): scores()})
    await store.finish(finished, Outcome(JobState.FAILED, error=BackendFailed("x")))
    await store.record_failure(faulty, "it went wrong")
    await redis.delete(keys.payload(lost, 0))
    taken = await stream.take([(JobClass.INTERACTIVE, "tiny", 16)])
    looked_up = await stream.look_up(taken.entries)
    assert [taken.prefetched[entry] for entry in taken.entries] == looked_up
    assert {entry.job_id for entry in taken.entries if taken.prefetched[entry].record} == {open_, faulty, lost}


async def test_a_job_that_is_not_taken_whole_comes_without_its_record(store: JobStore, stream: ClipStream) -> None:
    await store.accept(record(decoded=decoded(windows=3)), clips=memoryview(3 * clip(0)))
    for count in (2, 1):
        taken = await stream.take([(JobClass.INTERACTIVE, "tiny", count)])
        assert [taken.prefetched[entry].record for entry in taken.entries] == count * [None]


async def test_large_clips_do_not_come_along(
    store: JobStore, stream: ClipStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.clip_stream.INLINE_BYTES", 2 * len(clip(0)) - 1)
    await store.accept(record(decoded=decoded(windows=2)), clips=memoryview(2 * clip(0)))
    taken = await stream.take([(JobClass.INTERACTIVE, "tiny", 8)])
    assert len(taken.entries) == 2
    assert not taken.prefetched


async def test_large_clips_are_looked_up_like_small_ones(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [record(decoded=decoded(windows=2)) for _ in range(2)]
    for job in jobs:
        await store.accept(job, clips=memoryview(clip(0) + clip(1)))
    await redis.delete(keys.payload(jobs[0].id, 0))
    await store.record_scores({(jobs[1].id, 1): scores()})
    entries = (await stream.take([(JobClass.INTERACTIVE, "tiny", 8)])).entries
    small = await stream.look_up(entries)
    monkeypatch.setattr("service.queue.clip_stream.INLINE_BYTES", 0)
    assert await stream.look_up(entries) == small
    assert [state.payload for state in small] == [None, clip(1), clip(0), None]


async def test_a_blocking_read_serves_both_classes(store: JobStore, stream: ClipStream) -> None:
    for job_class in JobClass:
        await store.accept(record(job_class=job_class))
    assert {entry.job_class for entry in await stream.read(["tiny"], 8, 10)} == set(JobClass)


async def test_an_entry_whose_stream_entry_was_deleted_is_forgotten(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record())
    [entry] = await stream.read(["tiny"], 8, 10)
    key = keys.clips("tiny", JobClass.INTERACTIVE)
    await redis.xdel(key, entry.entry_id)
    assert await ClipStream(redis, keys, "two").reclaim("tiny", 0.0, 8) == []
    assert (await redis.xpending(key, GROUP))["pending"] == 0


async def test_consumers_of_dead_workers_are_deleted_unless_they_hold_work(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record())
    await stream.read(["tiny"], 8, 10)
    await ClipStream(redis, keys, "idle").read(["tiny"], 8, 10)
    await asyncio.sleep(0.02)
    await ClipStream(redis, keys, "tidy").tidy(["tiny"], 0.01)
    names = [c["name"] for c in await redis.xinfo_consumers(keys.clips("tiny", JobClass.INTERACTIVE), GROUP)]
    assert names == [b"one"]


async def test_lost_entries_of_a_long_stream_are_found_by_a_few_looks_of_any_workers(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=1100)))
    entries = await stream.read(["tiny"], 2000, 10)
    others = [ClipStream(redis, keys, name) for name in ("two", "three")]
    for place in (1050, 150):
        await stream.nack([entries[place]])
        looks = [await others[look % 2].reclaim("tiny", 30.0, 8) for look in range(6)]
        assert [found for found in looks if found] == [[entries[place]]]


async def test_a_short_stream_is_looked_through_at_once(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=1000)))
    entries = await stream.read(["tiny"], 2000, 10)
    await stream.nack([entries[999]])
    assert await ClipStream(redis, keys, "two").reclaim("tiny", 30.0, 8) == [entries[999]]


async def test_a_worker_that_leaves_a_stream_that_is_gone_leaves_the_others(
    stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    key = keys.clips("tiny", JobClass.INTERACTIVE)
    await redis.xgroup_createconsumer(key, GROUP, "one")
    assert [c["name"] for c in await redis.xinfo_consumers(key, GROUP)] == [b"one"]
    await stream.tidy(["gone", "tiny"], 1000)
    await stream.leave(["gone", "tiny"])
    assert await redis.xinfo_consumers(key, GROUP) == []


class Slow(ClipStream):
    """Sends a renewal only when it is told to."""

    def __init__(self, redis: Redis, keys: RedisKeys, consumer: str) -> None:
        super().__init__(redis, keys, consumer)
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def renew(self, entries: Iterable[ClipEntry]) -> set[ClipEntry]:
        self.begun.set()
        await self.go.wait()
        return await super().renew(entries)


async def test_a_renewal_that_is_on_its_way_does_not_take_back_what_is_given_back(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    slow, other = Slow(redis, keys, "slow"), ClipStream(redis, keys, "other")
    await store.accept(record())
    await slow.join(["tiny"])
    entries = await slow.read(["tiny"], 8, 10)
    leases = Leases(slow, 0.03)

    async def give_back() -> None:
        await leases.release(entries)
        await slow.nack(entries)

    async with leases.hold(entries):
        await slow.begun.wait()
        giving_back = asyncio.create_task(give_back())
        await asyncio.sleep(0.05)
        slow.go.set()
        await giving_back
    assert [entry.entry_id for entry in await other.reclaim("tiny", 1000.0, 8)] == [e.entry_id for e in entries]
