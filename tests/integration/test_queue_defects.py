"""Five defects that well-known queues on Redis Streams have had. Each test fails on a queue that has the defect."""

import asyncio
import time

from redis.asyncio import Redis

from service.contracts import JobClass
from service.queue.clip_stream import ClipStream
from service.queue.job_store import JobStore
from service.queue.redis_keys import GROUP, RedisKeys
from service.worker.leases import Leases
from testing.factories import clip, decoded, record, scores
from tests.fixtures.keyspace import names_like

STREAM = JobClass.INTERACTIVE


async def test_a_worker_that_dies_while_taking_over_work_blocks_nobody(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    """A lock around the take-over that never expires would keep everybody from lost work for ever."""
    await store.accept(record(decoded=decoded(windows=2)))
    await stream.read(["tiny"], 8, 10)
    before = await names_like(redis, f"{keys.prefix}:*")
    assert await ClipStream(redis, keys, "dies").reclaim("tiny", 0.0, 8)
    assert await names_like(redis, f"{keys.prefix}:*") == before, "a key stands that could be a lock"
    taken = [await ClipStream(redis, keys, "lives").reclaim("tiny", 0.0, 8) for _ in range(2)]
    assert all(taken)


async def test_of_many_workers_that_take_over_the_same_work_each_entry_goes_to_one(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=20)))
    entries = await stream.read(["tiny"], 20, 10)
    # Longer than all of them take: what one has taken must not be lost again.
    lease_s = 1.5
    await asyncio.sleep(lease_s + 0.01)

    async def take_all(name: str) -> list[str]:
        worker, taken = ClipStream(redis, keys, name), []
        while found := await worker.reclaim("tiny", lease_s, 4):
            taken += [entry.entry_id for entry in found]
        return taken

    taken = await asyncio.gather(*(take_all(f"worker {i}") for i in range(8)))
    assert sorted(entry_id for part in taken for entry_id in part) == sorted(entry.entry_id for entry in entries)


async def test_work_that_takes_longer_than_a_lease_is_not_taken_away(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=2)))
    entries = await stream.read(["tiny"], 8, 10)
    other = ClipStream(redis, keys, "two")
    # Longer than a busy machine stands still for.
    lease_s = 2.0
    async with Leases(stream, lease_s).hold(entries):
        end = time.monotonic() + 1.5 * lease_s
        while time.monotonic() < end:
            assert await other.reclaim("tiny", lease_s, 8) == []
            await asyncio.sleep(0.05)
    await asyncio.sleep(lease_s)
    assert len(await other.reclaim("tiny", lease_s, 8)) == 1, "nobody renews any more"


async def test_a_worker_takes_one_batch_and_leaves_the_rest_to_its_peers(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=20)))
    taken = (await stream.take([(STREAM, "tiny", 4)])).entries
    [row] = await redis.xinfo_consumers(keys.clips("tiny", STREAM), GROUP)
    assert len(taken) == row["pending"] == 4
    assert len((await ClipStream(redis, keys, "two").take([(STREAM, "tiny", 100)])).entries) == 16


async def test_finished_work_gives_its_memory_back(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    """XACK alone would leave every entry in its stream, and every payload until its time to live."""

    async def bytes_of_queue() -> int:
        names = await names_like(redis, f"{keys.prefix}:clip*")
        return sum([await redis.memory_usage(name) or 0 for name in names])

    empty = await bytes_of_queue()
    for _ in range(5):
        job = record(decoded=decoded(windows=20))
        await store.put_payloads(job.id, memoryview(clip(0) * 20), len(clip(0)))
        await store.accept(job)
    full = await bytes_of_queue()
    while entries := (await stream.take([(STREAM, "tiny", 8)])).entries:
        await store.record_scores({(entry.job_id, entry.clip): scores() for entry in entries})
        await stream.ack(entries)
    assert full > empty + 100 * len(clip(0))
    assert await bytes_of_queue() < empty + 2000
    assert await redis.xlen(keys.clips("tiny", STREAM)) == 0


async def test_a_worker_that_wakes_up_late_does_not_take_its_work_back(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    await store.accept(record(decoded=decoded(windows=2)))
    first, second = await stream.read(["tiny"], 8, 10)
    other = ClipStream(redis, keys, "two")
    assert [entry.entry_id for entry in await other.reclaim("tiny", 0.0, 1)] == [first.entry_id]
    assert await stream.renew([first, second]) == {second}
    await stream.nack([first])
    assert await ClipStream(redis, keys, "three").reclaim("tiny", 60.0, 8) == []
