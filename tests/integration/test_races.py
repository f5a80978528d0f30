"""Steps that meet in another order, and steps that are taken twice because their first answer was lost."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.api.overdue import Overdue
from service.contracts import BatchLine, BatchRecord, DeadLetter, JobClass, JobRecord, JobRequest, JobState, LineOutcome
from service.errors import DeadlineExceeded, JobDeleted, UnknownDeadLetter
from service.live.teller import Ledger, Teller
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.capacity import CapacityConfig, QueueCapacity, Reservation
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetters
from service.queue.events import JobEvents
from service.queue.idempotency import Claim, Earlier, IdempotencyConfig, IdempotencyKeys
from service.queue.job_list import JobList
from service.queue.job_store import SWEPT_AT_ONCE, End, JobStore
from service.queue.live_streams import LiveStreams, LiveTimes
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, PerPartition
from service.queue.redis_keys import GROUP, RedisKeys
from service.queue.webhook_queue import WebhookDelivery, WebhookQueue
from testing.factories import clip, decoded, record, scores, spec
from tests.integration.conftest import give_up, waiting

EXPIRED = Outcome(JobState.EXPIRED, error=DeadlineExceeded("late"))
HOOK = JobRequest(webhook="https://example.com/hook")


@pytest.fixture
def idempotency(redis: Redis, keys: RedisKeys) -> IdempotencyKeys:
    return IdempotencyKeys(redis, keys, IdempotencyConfig(idempotency_ttl_s=100, reservation_ttl_s=5.0))


@pytest.fixture
def webhooks(redis: Redis, keys: RedisKeys) -> WebhookQueue:
    return WebhookQueue(redis, keys)


async def accepted(store: JobStore, windows: int = 1, **changes: Any) -> JobRecord:
    job = record(decoded=decoded(windows=windows), **changes)
    await store.accept(job, clips=memoryview(clip(0) * windows))
    return job


def answer_lost(monkeypatch: pytest.MonkeyPatch, owner: Any, script: str) -> None:
    """From now on the first answer of a script never arrives, and the client asks again."""
    ask: Callable[..., Awaitable[Any]] = getattr(owner, script)

    async def twice(**arguments: Any) -> Any:
        await ask(**arguments)
        return await ask(**arguments)

    monkeypatch.setattr(owner, script, twice)


# --- DELETE --------------------------------------------------------------------------------------------------------


async def test_a_repeated_delete_leaves_the_key_to_the_request_that_has_it_now(
    store: JobStore, idempotency: IdempotencyKeys
) -> None:
    first, second = record(), record()
    claim = await idempotency.claim("key", first.id)
    assert isinstance(claim, Claim)
    await store.accept(first, claim=claim)
    assert await store.cancel(first.id)
    claim = await idempotency.claim("key", second.id)
    assert isinstance(claim, Claim)
    assert not await store.cancel(first.id)
    await store.accept(second, claim=claim, fingerprint="print")
    assert not await store.cancel(first.id)
    assert await idempotency.claim("key", "third") == Earlier(second.id, "print")


async def test_a_repeated_delete_leaves_the_cache_to_the_job_that_it_leads_to_now(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    first, place = record(), keys.result_cache("upload")
    await store.accept(first, cache_key=place)
    await redis.set(place, first.id, ex=100)
    await store.cancel(first.id)
    assert await redis.get(place) is None
    await redis.set(place, "another", ex=100)
    await store.cancel(first.id)
    assert await redis.get(place) == b"another"


# --- dead letters ------------------------------------------------------------------------------------------------


async def replayed(store: JobStore, dead: DeadLetters, stream: ClipStream, job: JobRecord) -> None:
    """Replay a job, and find all that its clips need."""
    queued = await dead.replay(job.id)
    entries = await stream.read(["tiny"], 64, 10)
    assert len(entries) == queued
    assert {state.payload for state in await stream.look_up(entries)} == {clip(0)}
    [whole] = await store.record_scores({(job.id, entry.clip): scores() for entry in entries}, entries)
    assert len(whole.scores) == len(job.decoded.clips)


@pytest.mark.parametrize("order", ["before", "after", "around"])
async def test_a_job_with_one_bad_clip_can_be_replayed_whenever_the_others_were_scored(
    store: JobStore, dead: DeadLetters, stream: ClipStream, order: str
) -> None:
    job = await accepted(store, windows=3)
    entries = await stream.read(["tiny"], 8, 10)
    good = {(job.id, entry.clip): scores() for entry in entries[1:]}
    early = {"before": 2, "after": 0, "around": 1}[order]
    await store.record_scores(dict(list(good.items())[:early]), entries[1 : 1 + early])
    assert await give_up(dead, job)
    await store.record_scores(dict(list(good.items())[early:]), entries[1 + early :])
    await stream.ack(entries[:1])
    await replayed(store, dead, stream, job)


async def test_a_job_that_is_scored_whole_after_its_death_can_be_replayed(
    store: JobStore, dead: DeadLetters, stream: ClipStream
) -> None:
    job = await accepted(store, windows=2)
    entries = await stream.read(["tiny"], 8, 10)
    assert await give_up(dead, job)
    assert await store.finish_all([End(job.id, EXPIRED, entries, recorded=False)]) == [False]
    await replayed(store, dead, stream, job)


async def test_a_clip_that_is_late_after_the_death_of_its_job_is_kept_for_the_replay(
    store: JobStore, dead: DeadLetters, stream: ClipStream
) -> None:
    job = await accepted(store, windows=2)
    entries = await stream.read(["tiny"], 8, 10)
    assert await give_up(dead, job)
    assert not await store.finish(job.id, EXPIRED)
    await stream.ack(entries)
    await replayed(store, dead, stream, job)


async def test_a_letter_that_is_dropped_late_does_no_harm_to_the_job_that_was_opened_again(
    store: JobStore, dead: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await accepted(store, windows=2)
    await store.record_scores({(job.id, 1): scores()})
    assert await give_up(dead, job)
    found = await dead._find(job.id)
    await dead.replay(job.id)

    async def find(job_id: str) -> DeadLetter:
        return found

    monkeypatch.setattr(dead, "_find", find)
    await dead.drop(job.id)
    assert (await store.status(job.id)).status is JobState.RUNNING
    assert len(await store.record_scores({(job.id, 0): scores()})) == 1


async def test_a_letter_is_dropped_while_its_job_is_deleted_and_the_job_stays_deleted(
    store: JobStore, dead: DeadLetters, keys: RedisKeys
) -> None:
    job = await accepted(store)
    assert await give_up(dead, job)
    await store.cancel(job.id)
    await dead._drop(keys={"letters": keys.dead}, args={"id": job.id, **dead._prefixes})
    with pytest.raises(JobDeleted):
        await store.status(job.id)
    assert await dead.letters() == []


async def test_of_two_replays_at_once_one_queues_the_clips(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await accepted(store)
    assert await give_up(dead, job)
    before, replay = await waiting(redis, keys), dead._replay

    async def behind(**arguments: Any) -> Any:
        monkeypatch.setattr(dead, "_replay", replay)
        await dead.replay(job.id)
        return await replay(**arguments)

    monkeypatch.setattr(dead, "_replay", behind)
    with pytest.raises(UnknownDeadLetter):
        await dead.replay(job.id)
    assert await waiting(redis, keys) == before + 1


@pytest.mark.parametrize("change", ["replay", "drop"])
async def test_a_letter_that_was_found_before_its_job_died_once_more_leaves_none_behind(
    store: JobStore, dead: DeadLetters, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    job = await accepted(store)
    assert await give_up(dead, job)
    script = getattr(dead, f"_{change}")

    async def behind(**arguments: Any) -> Any:
        monkeypatch.setattr(dead, f"_{change}", script)
        await dead.replay(job.id)
        assert await give_up(dead, job)
        return await script(**arguments)

    monkeypatch.setattr(dead, f"_{change}", behind)
    await getattr(dead, change)(job.id)
    assert await dead.letters() == []


# --- webhooks ----------------------------------------------------------------------------------------------------


async def told_of_its_first_end(store: JobStore, dead: DeadLetters, webhooks: WebhookQueue) -> WebhookDelivery:
    """The delivery of a failure, while it is under way; the job is replayed and ends a second time meanwhile."""
    job = await accepted(store, request=HOOK)
    assert await give_up(dead, job)
    [first] = await webhooks.claim(8, 60.0)
    await dead.replay(job.id)
    assert await store.finish(job.id, EXPIRED)
    return first


async def test_a_try_that_arrived_does_not_forget_the_end_after_a_replay(
    store: JobStore, dead: DeadLetters, webhooks: WebhookQueue
) -> None:
    await webhooks.done(await told_of_its_first_end(store, dead, webhooks))
    [second] = await webhooks.claim(8, 60.0)
    assert second.state == JobState.EXPIRED
    assert second.attempts == 1, "the tries of the first end are not counted"


async def test_a_try_that_failed_does_not_put_off_the_end_after_a_replay(
    store: JobStore, dead: DeadLetters, webhooks: WebhookQueue
) -> None:
    await webhooks.again(await told_of_its_first_end(store, dead, webhooks), 3600.0)
    [second] = await webhooks.claim(8, 60.0)
    assert second.state == JobState.EXPIRED


# --- deadlines ---------------------------------------------------------------------------------------------------


async def test_a_job_past_its_deadline_never_reads_as_queued(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job = await accepted(store, deadline_s=-1.0, owner="app")
    status = await store.status(job.id)
    assert status.status is JobState.EXPIRED
    assert (status.error or {})["code"] == DeadlineExceeded.code
    [listed] = (await JobList(PerPartition([Partition(redis, keys)])).page("app", None, 8)).jobs
    assert listed.status is JobState.EXPIRED


async def test_a_job_that_reads_as_expired_cannot_succeed_any_more(store: JobStore) -> None:
    job = await accepted(store, deadline_s=-1.0)
    assert not await store.finish(job.id, Outcome(JobState.SUCCEEDED))
    assert await store.expire_overdue() == [job.id]
    outcome = await store.outcome(job.id)
    assert outcome is not None
    assert outcome.state is JobState.EXPIRED


async def test_without_a_worker_the_api_ends_what_is_overdue_and_leaves_nothing_of_it(
    store: JobStore, directory: ModelDirectory, redis: Redis, keys: RedisKeys
) -> None:
    job = await accepted(store, windows=2, deadline_s=-1.0, request=HOOK)
    await Overdue(store, directory).sweep()
    assert [event.state for event in await JobEvents(redis, keys).since(job.id, None)][-1] is JobState.EXPIRED
    assert await redis.zcard(keys.webhooks) == 1
    assert not await redis.exists(keys.clips("tiny", JobClass.INTERACTIVE), *(keys.payload(job.id, i) for i in (0, 1)))


async def test_one_sweep_ends_all_that_is_overdue(store: JobStore) -> None:
    jobs = {(await accepted(store, deadline_s=-1.0)).id for _ in range(2 * SWEPT_AT_ONCE + 1)}
    await accepted(store)
    assert set(await store.expire_overdue()) == jobs


# --- answers that are lost ---------------------------------------------------------------------------------------


async def test_a_job_accepted_twice_is_accepted_once(
    store: JobStore, idempotency: IdempotencyKeys, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = record(decoded=decoded(windows=2))
    claim = await idempotency.claim("key", job.id)
    assert isinstance(claim, Claim)
    answer_lost(monkeypatch, store, "_accept")
    await store.accept(job, clips=memoryview(2 * clip(0)), claim=claim, fingerprint="print")
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == 2
    assert [event.state for event in await JobEvents(redis, keys).since(job.id, None)] == [JobState.QUEUED]
    assert await idempotency.claim("key", "next") == Earlier(job.id, "print")


async def test_an_acceptance_that_is_repeated_late_does_not_open_a_job_again(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = await accepted(store)
    await store.finish(job.id, EXPIRED)
    await store.accept(job, clips=memoryview(clip(0)))
    assert await redis.zcard(keys.deadlines) == 0
    assert not await redis.exists(keys.payload(job.id, 0))


async def test_a_key_that_is_claimed_twice_belongs_to_who_claimed_it(idempotency: IdempotencyKeys) -> None:
    first = await idempotency.claim("key", "job")
    assert await idempotency.claim("key", "job") == first


async def test_clips_that_were_taken_in_an_answer_that_was_lost_come_again_as_a_batch_without_blame(
    store: JobStore, stream: ClipStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store, windows=3)
    answer_lost(monkeypatch, stream, "_take")
    assert (await stream.take([(JobClass.INTERACTIVE, "tiny", 8)])).entries == []
    assert await ClipStream(stream._redis, stream._keys, "two").reclaim("tiny", 60.0, 8, idle=True) == []
    taken = await stream.reclaim("tiny", 60.0, 8, idle=True)
    assert [(entry.clip, entry.deliveries) for entry in taken] == [(0, 1), (1, 1), (2, 1)]


async def test_a_take_over_whose_answer_was_lost_counts_one_delivery(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store)
    await ClipStream(redis, keys, "vanished").read(["tiny"], 8, 10)
    answer_lost(monkeypatch, stream, "_claim")
    for _ in range(3):
        [entry] = await stream.reclaim("tiny", 0.0, 8, idle=True)
        assert entry.deliveries == 2
    [row] = await redis.xpending_range(keys.clips("tiny", JobClass.INTERACTIVE), GROUP, "-", "+", 8)
    assert row["times_delivered"] == 2


async def test_what_a_worker_knows_that_it_holds_is_not_handed_to_it_again(store: JobStore, stream: ClipStream) -> None:
    await accepted(store)
    await stream.read(["tiny"], 8, 10)
    assert await stream.reclaim("tiny", 60.0, 8) == []


async def test_work_given_back_twice_is_forgiven_once(
    store: JobStore, stream: ClipStream, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(store)
    await ClipStream(redis, keys, "vanished").read(["tiny"], 8, 10)
    taken = await stream.reclaim("tiny", 0.0, 8)
    answer_lost(monkeypatch, stream, "_renew_lease")
    await stream.nack(taken)
    [entry] = await ClipStream(redis, keys, "two").reclaim("tiny", 60.0, 8)
    assert entry.deliveries == 2


async def test_the_job_of_a_line_whose_end_was_repeated_is_told_to_the_one_who_ended_it(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = BatchStore(redis, keys, BatchConfig(batch_deadline_s=1000, batch_ttl_s=100, max_open_batches=2))
    batch = BatchRecord(id="1" * 32, owner="me", key_name="me", identity="key:me", digest="d", total=2)
    await batches.open(batch, [BatchLine(line=line, url="https://a/b", options=JobRequest()) for line in (1, 2)])
    await batches.begin_line(batch.id, 1, "b" * 32)
    answer_lost(monkeypatch, batches, "_end")
    assert await batches.end_line(batch, 1, LineOutcome(status="cancelled")) == "b" * 32
    assert await batches.end_line(batch, 1, LineOutcome(status="cancelled")) is None
    assert await batches.end_line(batch, 2, LineOutcome(status="cancelled")) == ""
    facts = await batches.facts(batch.id)
    assert (facts.left, facts.cancelled) == (0, 2)


async def test_what_a_live_stream_tells_twice_is_told_once(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = LiveStreams(redis, keys, LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300))
    await streams.create("s", "me", {}, 1000.5, pulled=False)
    answer_lost(monkeypatch, streams, "_hold")
    held, first = await streams.hold("s", "a", "take", event={"n": 1})
    assert held == "ours"
    held, second = await streams.hold("s", "a", "keep", event={"n": 1})
    assert held == "ours"
    assert await streams.events("s", None) == [(first, {"n": 1}), (second, {"n": 1})]


async def test_the_end_of_a_live_stream_that_is_told_twice_is_the_callers(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = LiveStreams(redis, keys, LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300))
    await streams.create("s", "me", {}, 1000.5, pulled=True)
    answer_lost(monkeypatch, streams, "_hold")
    held, told = await streams.hold("s", "a", "take", event={"n": 1}, ended="end")
    assert held == "ours"
    assert await streams.events("s", None) == [(told, {"n": 1})]
    assert await redis.zcard(keys.pulled) == 0


async def test_what_a_teller_tells_again_because_redis_was_away_is_told_once(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = LiveStreams(redis, keys, LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300))
    await streams.create("s", "me", {}, 1000.5, pulled=False)
    await streams.hold("s", "a", "take")
    tell, tries = streams._hold, []

    async def away_once(**arguments: Any) -> Any:
        reply = await tell(**arguments)
        tries.append(reply)
        if len(tries) == 1:
            raise ConnectionError("the reply was lost")
        return reply

    monkeypatch.setattr(streams, "_hold", away_once)
    teller = Teller("s", "a", streams, Ledger(), 1.0, 100)
    await teller.state("started")
    assert len(tries) == 2
    assert len(await streams.events("s", None)) == 1
    assert not teller.lost


async def test_what_was_told_before_another_took_the_stream_is_not_told_again(redis: Redis, keys: RedisKeys) -> None:
    streams = LiveStreams(redis, keys, LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300))
    await streams.create("s", "me", {}, 1000.5, pulled=False)
    await streams.hold("s", "a", "take", event={"n": 1}, call="one")
    await streams.hold("s", "b", "steal")
    assert await streams.hold("s", "a", "keep", event={"n": 1}, call="one") == ("held", "")
    assert len(await streams.events("s", None)) == 1


async def test_a_replay_whose_answer_was_lost_says_how_many_clips_it_queued(
    store: JobStore, dead: DeadLetters, redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await accepted(store, windows=3)
    assert await give_up(dead, job)
    before = await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE))
    answer_lost(monkeypatch, dead, "_replay")
    assert await dead.replay(job.id) == 3
    assert await redis.xlen(keys.clips("tiny", JobClass.INTERACTIVE)) == before + 3


async def test_room_that_is_reserved_twice_is_reserved_once(
    redis: Redis, keys: RedisKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = spec()
    limits = CapacityConfig(
        max_queue_clips=10,
        max_queue_bytes=1_000_000,
        max_wait_share=0.5,
        reservation_ttl_s=30.0,
        worker_interactive_weight=4,
    )
    capacity = QueueCapacity(redis, keys, limits)
    answer_lost(monkeypatch, capacity, "_reserve")
    wanted = Reservation("a", JobClass.INTERACTIVE, 6, served.clip_bytes, served.name)
    await capacity.reserve(wanted, [served], None, 60.0)
    assert await redis.zcard(keys.reserved) == 1
