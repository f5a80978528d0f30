import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobState
from service.errors import BackendFailed, QueueUnavailable, ResultExpired, UnknownJob
from service.local.redis import LocalRedis
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.connection import connect
from service.queue.job_store import JobStore
from service.queue.redis_keys import GROUP, RedisKeys
from testing.factories import clip, decoded, record, scores, spec
from tests.fixtures.keyspace import names_like
from tests.fixtures.replies import entries
from tests.integration.conftest import TIMES, waiting


async def test_an_accepted_job_is_queued_with_all_its_clips(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record(decoded=decoded(windows=3))
    await store.accept(job)
    status = await store.status(job.id)
    assert (status.status, status.clips_done, status.clips_total) == (JobState.QUEUED, 0, 3)
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == await waiting(redis, keys) == 3


async def test_payloads_are_the_clips_bytes_and_expire(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    clips = [clip(i) for i in range(3)]
    await store.put_payloads("job", memoryview(b"".join(clips)), len(clips[0]))
    assert [await redis.get(keys.payload("job", i)) for i in range(3)] == clips
    assert 0 < await redis.ttl(keys.payload("job", 2)) <= TIMES.payload_ttl_s


@pytest.mark.parametrize("together_bytes", [0, 1 << 20])
async def test_clips_that_come_with_their_job_are_there_with_it(
    store: JobStore, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch, together_bytes: int
) -> None:
    monkeypatch.setattr("service.queue.job_intake.TOGETHER_BYTES", together_bytes)
    clips = [clip(i) for i in range(3)]
    job = record(decoded=decoded(windows=3))
    await store.accept(job, clips=memoryview(b"".join(clips)))
    assert [await redis.get(keys.payload(job.id, i)) for i in range(3)] == clips
    assert 0 < await redis.ttl(keys.payload(job.id, 2)) <= TIMES.payload_ttl_s
    assert await waiting(redis, keys) == 3
    assert (await store.status(job.id)).clips_total == 3


async def test_every_key_of_a_job_has_a_time_to_live(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record(decoded=decoded(windows=2))
    await store.put_payloads(job.id, memoryview(clip(0) + clip(1)), len(clip(0)))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    names = [
        key
        for key in await names_like(redis, f"{keys.prefix}:*")
        if key.decode() not in (keys.clips("tiny", JobClass.INTERACTIVE), keys.deadlines, keys.routes)
    ]
    assert len(names) == 5, "job, scores, the payload that is left, events, the owner's list"
    assert all([await redis.ttl(name) > 0 for name in names])


async def test_only_the_last_clip_completes_a_job(store: JobStore) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    assert await store.record_scores({(job.id, 1): scores()}) == []
    assert (await store.status(job.id)).status is JobState.RUNNING
    assert [found.id for found in await store.record_scores({(job.id, 0): scores()})] == [job.id]


async def test_a_clip_scored_twice_counts_once(store: JobStore) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    assert await store.record_scores({(job.id, 0): scores()}) == []
    assert (await store.status(job.id)).clips_done == 1


async def test_scores_come_back_in_clip_order(store: JobStore) -> None:
    job = record(decoded=decoded(windows=12))
    await store.accept(job)
    for number in reversed(range(12)):
        await store.record_scores({(job.id, number): scores(logits=(float(number), 0.0, 0.0, 0.0))})
    found = await store.scored(job.id)
    assert found is not None
    assert [s.logits[0] for s in found.scores] == list(range(12))
    assert found.record == job.model_copy(update={"spec": spec().job_model})


async def test_the_first_outcome_stands(store: JobStore) -> None:
    job = record()
    await store.accept(job)
    assert await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("first")))
    assert not await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("second")))
    status = await store.status(job.id)
    assert status.error is not None
    assert status.error["detail"] == "first"


async def test_scores_of_a_finished_job_are_not_kept(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record()
    await store.accept(job)
    await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("first")))
    await store.record_scores({(job.id, 0): scores()})
    assert not await redis.exists(keys.scores(job.id))


async def test_an_unknown_job_cannot_be_finished(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    assert not await store.finish("nobody", Outcome(JobState.FAILED, error=BackendFailed("?")))
    assert not await redis.exists(keys.outcome("nobody"))


async def test_an_unknown_job_is_said_to_be_unknown(store: JobStore) -> None:
    with pytest.raises(UnknownJob, match="nobody"):
        await store.status("nobody")


async def test_a_result_that_expired_is_said_to_be_gone(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record()
    await store.accept(job)
    await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("x")))
    await redis.delete(keys.outcome(job.id))
    with pytest.raises(ResultExpired, match="200 s"):
        await store.status(job.id)


async def test_a_full_redis_is_reported_and_drops_nothing(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        redis = connect(server.url, name="full")
        store = JobStore(redis, RedisKeys("full"), TIMES)
        await redis.config_set("maxmemory", "4mb")
        big = memoryview(bytes(1_000_000))
        await store.put_payloads("first", big, len(big))
        with pytest.raises(QueueUnavailable, match="memory limit") as caught:
            await store.put_payloads("many", memoryview(bytes(20_000_000)), len(big))
        assert caught.value.retry_after_s
        assert await redis.get("full:clip:first:0") == bytes(big)
        await redis.aclose()


async def test_an_unreachable_redis_is_reported(tmp_path: Path) -> None:
    redis = connect(f"unix://{tmp_path}/nothing.sock", name="lost")
    with pytest.raises(QueueUnavailable, match="cannot be reached"):
        await JobStore(redis, RedisKeys("x"), TIMES).status("job")
    await redis.aclose()


async def test_concurrent_finishers_agree_on_one_outcome(store: JobStore) -> None:
    job = record()
    await store.accept(job)
    outcomes = [Outcome(JobState.FAILED, error=BackendFailed(str(i))) for i in range(10)]
    assert sum(await asyncio.gather(*(store.finish(job.id, outcome) for outcome in outcomes))) == 1


async def test_a_scored_clip_frees_its_payload(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record(decoded=decoded(windows=2))
    await store.put_payloads(job.id, memoryview(clip(0) + clip(1)), len(clip(0)))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    assert [await redis.exists(keys.payload(job.id, i)) for i in range(2)] == [0, 1]


async def test_a_job_past_its_deadline_expires_wherever_its_clips_are(store: JobStore) -> None:
    late, in_time = record(deadline_s=-1.0), record()
    await store.accept(late)
    await store.accept(in_time)
    assert await store.expire_overdue() == [late.id]
    assert await store.expire_overdue() == []
    assert (await store.status(late.id)).status is JobState.EXPIRED
    assert (await store.status(in_time.id)).status is JobState.QUEUED


async def test_results_can_be_written_while_redis_is_full(tmp_path: Path) -> None:
    with LocalRedis(tmp_path, persist=False) as server:
        redis, keys = connect(server.url, name="full"), RedisKeys("full")
        store = JobStore(redis, keys, TIMES)
        job = record()
        await store.put_payloads(job.id, memoryview(clip(0)), len(clip(0)))
        await store.accept(job)
        await redis.config_set("maxmemory", "500kb")
        with pytest.raises(QueueUnavailable, match="memory limit"):
            await store.accept(record())
        assert [found.id for found in await store.record_scores({(job.id, 0): scores()})] == [job.id]
        assert await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("x")))
        await redis.aclose()


async def test_a_fault_of_a_job_that_is_gone_leaves_nothing_behind(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    await store.record_failure("0" * 32, "the network said no")
    assert not await redis.exists(keys.job("0" * 32))


async def test_a_job_that_never_was_cannot_be_deleted(store: JobStore) -> None:
    with pytest.raises(UnknownJob):
        await store.cancel("0" * 32)


async def test_a_deletion_is_remembered_for_its_whole_time(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record()
    await store.accept(job)
    await redis.expire(keys.job(job.id), 50)
    await store.cancel(job.id)
    assert 50 < await redis.ttl(keys.job(job.id)) <= TIMES.tombstone_ttl_s


async def test_a_deletion_is_published(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record()
    await store.accept(job)
    async with redis.pubsub() as news:
        await news.subscribe(keys.finished)
        assert await news.get_message(timeout=10)
        await store.cancel(job.id)
        message = await news.get_message(timeout=10)
        assert message is not None
        assert message["data"] == job.id.encode()


async def test_a_scored_clip_leaves_the_stream_while_its_job_goes_on(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job, name = record(decoded=decoded(windows=2)), keys.clips("tiny", JobClass.INTERACTIVE)
    await store.accept(job)
    entries = await stream.read(["tiny"], 8, 10)
    await store.record_scores({(job.id, 0): scores()}, entries[:1])
    assert await redis.xlen(name) == (await redis.xpending(name, GROUP))["pending"] == 1


async def test_progress_is_published(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    async with redis.pubsub() as news:
        await news.subscribe(keys.progress)
        assert await news.get_message(timeout=10)
        await store.record_scores({(job.id, 0): scores()})
        message = await news.get_message(timeout=10)
        assert message is not None
        assert message["data"] == job.id.encode()


async def test_a_clip_that_is_scored_twice_is_told_once(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    for _ in range(2):
        await store.record_scores({(job.id, 0): scores()})
    told = [fields[b"state"] for _, fields in entries(await redis.xrange(keys.events(job.id)))]
    assert told == [b"queued", b"running"]


async def test_a_job_that_ends_is_known_for_its_whole_time_and_needs_its_scores_no_more(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = record(decoded=decoded(windows=2))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    await redis.expire(keys.job(job.id), 50)
    await store.finish(job.id, Outcome(JobState.FAILED, error=BackendFailed("broken")))
    assert 50 < await redis.ttl(keys.job(job.id)) <= TIMES.tombstone_ttl_s
    assert not await redis.exists(keys.scores(job.id))
