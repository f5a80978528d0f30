import json
from typing import Any

import pytest
from redis.asyncio import Redis

from service.contracts import JobClass, JobRecord, JobState
from service.errors import BackendFailed, UnknownDeadLetter
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import RedisKeys
from testing.factories import clip, decoded, record, scores, spec
from tests.fixtures.keyspace import names_like
from tests.integration.conftest import LETTERS, TIMES, give_up, waiting


async def buried(store: JobStore, dead: DeadLetters, windows: int = 2, **changes: Any) -> JobRecord:
    """A job with the scores of its first clip whose second clip ended it."""
    job = record(decoded=decoded(windows=windows), request_id="who", **changes)
    await store.put_payloads(job.id, memoryview(clip(0) * windows), len(clip(0)))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    assert await give_up(dead, job, clip_number=1)
    return job


async def test_the_job_fails_and_the_letter_says_why(store: JobStore, dead: DeadLetters) -> None:
    job = await buried(store, dead)
    status = await store.status(job.id)
    assert status.status is JobState.FAILED
    [letter] = await dead.letters()
    assert (letter.job_id, letter.clip, letter.deliveries) == (job.id, 1, 3)
    assert (letter.code, letter.detail) == ("backend_failed", "the network said no")
    assert letter.clip_bytes == len(clip(0)), "one of the two clips was scored, and its payload is gone"


async def test_the_record_of_the_job_can_be_read(store: JobStore, dead: DeadLetters) -> None:
    job = await buried(store, dead)
    letter, kept = await dead.show(job.id)
    assert (letter.job_id, kept) == (job.id, job.model_copy(update={"spec": spec().job_model}))


async def test_a_replay_queues_the_clips_without_scores_and_the_job_can_succeed(
    store: JobStore, dead: DeadLetters, stream: ClipStream
) -> None:
    job = await buried(store, dead, windows=3)
    await stream.ack(await stream.read(["tiny"], 8, 10))
    assert await dead.replay(job.id) == 2
    assert (await store.status(job.id)).status is JobState.RUNNING
    entries = await stream.read(["tiny"], 8, 10)
    assert [entry.clip for entry in entries] == [1, 2]
    assert [state.payload for state in await stream.look_up(entries)] == [clip(0), clip(0)]
    assert entries[0].deadline_at > job.deadline_at
    assert [found.id for found in await store.record_scores({(job.id, i): scores() for i in (1, 2)})] == [job.id]
    assert await dead.letters() == []


async def test_a_replay_keeps_its_clips_where_a_worker_removes_the_entries_of_before_only_then(
    store: JobStore, dead: DeadLetters, stream: ClipStream
) -> None:
    job = await buried(store, dead, windows=3)
    before = await stream.read(["tiny"], 8, 10)
    assert await dead.replay(job.id) == 2
    await stream.ack(before)
    entries = await stream.read(["tiny"], 8, 10)
    assert [state.payload for state in await stream.look_up(entries)] == [clip(0), clip(0)]


async def test_a_replayed_job_has_its_whole_time_again(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    assert await redis.zscore(keys.deadlines, job.id) is None
    await dead.replay(job.id)
    deadline = await redis.zscore(keys.deadlines, job.id)
    assert deadline is not None
    assert deadline > job.deadline_at


async def test_a_replayed_job_has_all_that_its_record_had_for_workers_of_other_releases(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead, spec=spec())
    before = json.loads(await redis.hget(keys.dead_job(job.id), "record") or b"")
    await dead.replay(job.id)
    after = json.loads(await redis.hget(keys.job(job.id), "record") or b"")
    assert after["spec"] == spec().model_dump(mode="json")
    assert {name for name in before if before[name] != after[name]} == {"enqueued_at", "deadline_at"}


async def test_the_clips_of_a_replay_are_waited_for_where_the_route_was_cleared(
    store: JobStore, dead: DeadLetters, stream: ClipStream, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead, windows=3)
    await stream.ack(await stream.read(["tiny"], 8, 10))
    await redis.zrem(keys.routes, "tiny")
    await dead.replay(job.id)
    assert await waiting(redis, keys) == 2


async def test_what_was_kept_for_a_replay_lives_as_long_as_that_of_any_job_after_it(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    kept = keys.payload(job.id, 1), keys.scores(job.id)
    assert all([await redis.ttl(key) > TIMES.payload_ttl_s for key in kept])
    await dead.replay(job.id)
    assert all([0 < await redis.ttl(key) <= TIMES.payload_ttl_s for key in kept])
    assert not await redis.exists(keys.dead_job(job.id))


async def test_a_replay_happens_once(store: JobStore, dead: DeadLetters) -> None:
    job = await buried(store, dead)
    await dead.replay(job.id)
    with pytest.raises(UnknownDeadLetter, match=job.id):
        await dead.replay(job.id)


async def test_a_replay_without_its_clips_is_refused(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    await redis.delete(keys.payload(job.id, 1))
    with pytest.raises(UnknownDeadLetter, match="are gone"):
        await dead.replay(job.id)


async def test_dropping_erases_the_clips_and_leaves_the_job_failed(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    await dead.drop(job.id)
    assert await dead.letters() == []
    assert not await redis.exists(keys.payload(job.id, 1), keys.scores(job.id), keys.dead_job(job.id))
    assert (await store.status(job.id)).status is JobState.FAILED
    assert await redis.hget(keys.job(job.id), "finished") == b"1", (
        "it is not dead any more, which is what a replay needs"
    )


async def test_deleting_a_dead_job_takes_its_letter_and_its_record_along(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    other, job = await buried(store, dead), await buried(store, dead)
    await store.cancel(job.id)
    assert [letter.job_id for letter in await dead.letters()] == [other.id]
    assert not await redis.exists(keys.dead_job(job.id))


async def test_a_job_that_has_ended_is_not_buried(store: JobStore, dead: DeadLetters) -> None:
    job = await buried(store, dead)
    [letter] = await dead.letters()
    assert not await dead.add(letter, Outcome(JobState.FAILED, error=BackendFailed("again")))
    assert len(await dead.letters()) == 1
    assert job.id == letter.job_id


async def test_a_job_that_was_deleted_is_not_buried(store: JobStore, dead: DeadLetters) -> None:
    job = await buried(store, dead)
    [letter] = await dead.letters()
    await store.cancel(job.id)
    assert not await dead.add(letter, Outcome(JobState.FAILED, error=BackendFailed("again")))
    assert await dead.letters() == []


async def test_a_dead_job_is_known_as_long_as_its_letter_is_kept(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    assert TIMES.tombstone_ttl_s < await redis.ttl(keys.job(job.id)) <= LETTERS.dead_letter_ttl_s


async def test_a_stream_that_nobody_reads_goes_with_the_death_of_its_job(
    store: JobStore, dead: DeadLetters, directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    await buried(store, dead)
    await directory.clear()
    assert not await redis.exists(keys.clips("tiny", JobClass.INTERACTIVE))


async def test_the_death_of_a_job_is_published(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    async with redis.pubsub() as news:
        await news.subscribe(keys.finished)
        assert await news.get_message(timeout=10)
        job = await buried(store, dead)
        message = await news.get_message(timeout=10)
        assert message is not None
        assert message["data"] == job.id.encode()


@pytest.mark.parametrize(("jobs", "size"), [(2, 1_000_000), (10, 2 * len(clip(0)))])
async def test_the_oldest_letters_go_first_with_their_clips(
    store: JobStore, redis: Redis, keys: RedisKeys, jobs: int, size: int
) -> None:
    dead = DeadLetters(redis, keys, TIMES, DeadLetterConfig(400, jobs, size))
    old, *young = [await buried(store, dead) for _ in range(3)]
    assert [letter.job_id for letter in await dead.letters()] == [job.id for job in reversed(young)]
    assert not await redis.exists(keys.payload(old.id, 1), keys.scores(old.id), keys.dead_job(old.id))


async def test_everything_kept_with_a_letter_has_a_time_to_live(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys
) -> None:
    job = await buried(store, dead)
    lasting = {keys.dead, keys.routes, *(keys.clips("tiny", job_class) for job_class in JobClass)}
    names = {key.decode() for key in await names_like(redis, f"{keys.prefix}:*")} - lasting
    assert {keys.payload(job.id, 1), keys.scores(job.id), keys.dead_job(job.id)} <= names
    assert all([await redis.ttl(name) > 0 for name in names])
