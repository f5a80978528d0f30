"""Batches in Redis: a line ends once, a batch with its last line, and nothing of either is kept for ever."""

import asyncio
import contextlib
from typing import Any

import pytest
from redis.asyncio import Redis

from service.contracts import BatchLine, BatchRecord, BatchState, JobRequest, LineOutcome
from service.errors import IdempotencyKeyReused, InvalidOption, TooManyBatches, UnknownBatch
from service.queue.batch_facts import BatchFacts
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.redis_keys import RedisKeys
from service.queue.webhook_queue import WebhookQueue

CONFIG = BatchConfig(batch_deadline_s=1000, batch_ttl_s=100, max_open_batches=2)
DONE = LineOutcome(status="succeeded", job="a" * 32)
FAILED = LineOutcome(status="failed", error={"code": "undecodable", "detail": "It is none."})
CANCELLED = LineOutcome(status="cancelled")


@pytest.fixture
def batches(redis: Redis, keys: RedisKeys) -> BatchStore:
    return BatchStore(redis, keys, CONFIG)


def record(number: int = 1, total: int = 3, **more: Any) -> BatchRecord:
    return BatchRecord(
        id=f"{number:032x}",
        owner=more.pop("owner", "me"),
        key_name="me",
        identity="key:me",
        digest="d",
        total=total,
        **more,
    )


def lines(total: int = 3) -> list[BatchLine]:
    # Lines of a manifest may be blank, so that their numbers have gaps; as text 10 comes before 2.
    return [BatchLine(line=1 + 9 * at, url=f"https://a/{at}", options=JobRequest(top_k=at + 1)) for at in range(total)]


async def opened(batches: BatchStore, number: int = 1, **more: Any) -> BatchRecord:
    made = record(number, **more)
    await batches.open(made, lines(made.total))
    return made


def counts(facts: BatchFacts) -> tuple[int, int, int, int, int]:
    return facts.left, facts.running, facts.succeeded, facts.failed, facts.cancelled


async def test_an_opened_batch_has_all_its_lines_in_order_and_waits(batches: BatchStore) -> None:
    made = await opened(batches)
    facts = await batches.facts(made.id)
    assert (facts.record, facts.state, counts(facts)) == (made, BatchState.QUEUED, (3, 0, 0, 0, 0))
    assert await batches.left(made.id) == (lines(), {})
    assert await batches.open_ids() == [made.id]


async def test_a_batch_that_is_opened_again_stays_as_it_is(batches: BatchStore) -> None:
    made = await opened(batches)
    await batches.end_line(made, 1, DONE)
    await batches.open(made, lines())
    assert counts(await batches.facts(made.id)) == (2, 0, 1, 0, 0)


async def test_another_manifest_does_not_take_the_place_of_a_batch(batches: BatchStore) -> None:
    made = await opened(batches)
    with pytest.raises(IdempotencyKeyReused):
        await batches.open(made.model_copy(update={"digest": "other"}), lines(2))
    assert await batches.left(made.id) == (lines(), {})


async def test_a_caller_has_so_many_open_batches_and_no_more(
    batches: BatchStore, redis: Redis, keys: RedisKeys
) -> None:
    first = await opened(batches, 1, total=1)
    await opened(batches, 2)
    with pytest.raises(TooManyBatches) as refused:
        await opened(batches, 3)
    assert (refused.value.limit, refused.value.actual) == (2, 2)
    with pytest.raises(UnknownBatch):
        await batches.facts(record(3).id)
    await opened(batches, 4, owner="other")
    await batches.end_line(first, 1, DONE)
    await opened(batches, 3)


async def test_a_batch_that_expired_unended_takes_no_place(batches: BatchStore, redis: Redis, keys: RedisKeys) -> None:
    for number in (1, 2):
        await opened(batches, number)
    await redis.zadd(keys.open_batches("me"), {record(1).id: 1.0})
    await redis.zadd(keys.batches_of("me"), {record(1).id: 1.0})
    await redis.zadd(keys.batches, {record(1).id: 1.0})
    await opened(batches, 3)
    assert await batches.open_ids() == [record(2).id, record(3).id]
    assert await redis.zrange(keys.batches, 0, -1) == [record(2).id.encode(), record(3).id.encode()]
    assert await redis.zrange(keys.batches_of("me"), 0, -1) == [record(2).id.encode(), record(3).id.encode()]


async def test_a_line_ends_once_whoever_ends_it(batches: BatchStore) -> None:
    made = await opened(batches)
    told = await asyncio.gather(*(batches.end_line(made, 10, outcome) for outcome in (DONE, FAILED, CANCELLED)))
    assert told == ["", None, None]
    [ended] = await batches.ended(made.id, 0, 10)
    assert (ended.seq, ended.line, ended.outcome) == (1, lines()[1], DONE)
    assert counts(await batches.facts(made.id)) == (2, 0, 1, 0, 0)
    left, _ = await batches.left(made.id)
    assert [line.line for line in left] == [1, 19]


async def test_a_line_of_no_batch_ends_not(batches: BatchStore, redis: Redis, keys: RedisKeys) -> None:
    made = record()
    assert await batches.end_line(made, 1, DONE) is None
    assert not await redis.exists(keys.batch(made.id), keys.batch_outcomes(made.id), keys.batch_ended(made.id))


async def test_a_line_that_runs_is_counted_and_gives_its_job_to_the_one_who_ends_it(batches: BatchStore) -> None:
    made = await opened(batches)
    assert await batches.begin_line(made.id, 1)
    assert await batches.begin_line(made.id, 10)
    assert await batches.begin_line(made.id, 10, "b" * 32)
    assert counts(await batches.facts(made.id)) == (3, 2, 0, 0, 0)
    assert (await batches.left(made.id))[1] == {10: "b" * 32}
    assert await batches.end_line(made, 10, CANCELLED) == "b" * 32
    assert await batches.end_line(made, 1, CANCELLED) == ""
    assert counts(await batches.facts(made.id)) == (1, 0, 0, 0, 2)


async def test_a_line_that_has_ended_is_not_counted_as_running_where_its_driver_is_stopped(
    batches: BatchStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await opened(batches)
    await batches.end_line(made, 1, CANCELLED)

    async def stopped(*_: Any) -> int:
        raise asyncio.CancelledError

    # What would follow the first step.
    with monkeypatch.context() as patch, contextlib.suppress(asyncio.CancelledError):
        patch.setattr(redis, "hdel", stopped)
        await batches.begin_line(made.id, 1)
    assert (await batches.facts(made.id)).running == 0


async def test_a_line_that_has_ended_does_not_begin(batches: BatchStore) -> None:
    made = await opened(batches)
    await batches.end_line(made, 1, FAILED)
    assert not await batches.begin_line(made.id, 1, "b" * 32)
    assert counts(await batches.facts(made.id)) == (2, 0, 0, 1, 0)


async def test_a_batch_ends_with_its_last_line(batches: BatchStore) -> None:
    made = await opened(batches)
    await batches.start(made.id, 5.0)
    await batches.start(made.id, 6.0)
    for line, outcome in ((19, DONE), (1, FAILED)):
        await batches.end_line(made, line, outcome)
    facts = await batches.facts(made.id)
    assert (facts.state, facts.started_at, facts.ended_at) == (BatchState.RUNNING, 5.0, None)
    await batches.end_line(made, 10, DONE)
    facts = await batches.facts(made.id)
    assert (facts.state, counts(facts)) == (BatchState.COMPLETED, (0, 0, 2, 1, 0))
    assert facts.ended_at is not None
    assert facts.created_at <= facts.ended_at < facts.created_at + 60
    assert await batches.open_ids() == []
    assert [(one.seq, one.line.line) for one in await batches.ended(made.id, 0, 9)] == [(1, 19), (2, 1), (3, 10)]
    assert [one.seq for one in await batches.ended(made.id, 1, 1)] == [2]
    assert await batches.ended(made.id, 3, 9) == []


async def test_a_cancelled_batch_is_one_even_before_its_lines_have_ended(batches: BatchStore) -> None:
    made = await opened(batches)
    await batches.cancel(made.id, 7.0)
    assert (await batches.facts(made.id)).state is BatchState.CANCELLED
    for line in lines():
        await batches.end_line(made, line.line, CANCELLED)
    facts = await batches.facts(made.id)
    assert (facts.state, facts.cancelled_at) == (BatchState.CANCELLED, 7.0)


async def test_a_batch_that_was_cancelled_too_late_is_complete(batches: BatchStore) -> None:
    made = await opened(batches, total=1)
    await batches.cancel(made.id, 7.0)
    await batches.end_line(made, 1, DONE)
    assert (await batches.facts(made.id)).state is BatchState.COMPLETED


async def test_a_batch_with_a_destination_stays_open_until_it_is_written(batches: BatchStore) -> None:
    made = await opened(batches, total=1, destination="s3://out/results.jsonl")
    await batches.end_line(made, 1, DONE)
    assert (await batches.facts(made.id)).ended_at is not None
    assert await batches.open_ids() == [made.id]
    await opened(batches, 2)
    with pytest.raises(TooManyBatches):
        await opened(batches, 3)


@pytest.mark.parametrize("why", ["", "The bucket did not take it."])
async def test_a_batch_whose_results_are_written_or_given_up_is_open_no_more(
    batches: BatchStore, redis: Redis, keys: RedisKeys, why: str
) -> None:
    made = await opened(batches, total=1, destination="s3://out/results.jsonl")
    await batches.end_line(made, 1, DONE)
    assert (await batches.facts(made.id)).delivered_at is None
    await redis.expire(keys.batch(made.id), 5)
    await batches.close(await batches.facts(made.id), why)
    facts = await batches.facts(made.id)
    assert facts.undelivered == (why or None)
    assert (facts.delivered_at is None) == bool(why)
    assert await batches.open_ids() == []
    assert not await redis.exists(keys.open_batches("me"))
    assert await life(redis, keys, made.id) == {100}


async def test_a_batch_with_a_webhook_stays_open_until_its_webhook_is_queued(
    batches: BatchStore, redis: Redis, keys: RedisKeys
) -> None:
    made = await opened(batches, total=1, webhook="https://example.com/hook")
    await batches.end_line(made, 1, DONE)
    assert await batches.open_ids() == [made.id]
    facts = await batches.facts(made.id)
    await batches.close(facts)
    await batches.close(facts)
    assert await batches.open_ids() == []
    assert (await batches.facts(made.id)).delivered_at is None
    assert await WebhookQueue(redis, keys).claim(9, 5.0) == []
    [due] = await WebhookQueue(redis, keys, "batch").claim(9, 5.0)
    assert (due.job_id, due.url, due.owner, due.kind, due.state) == (made.id, made.webhook, "me", "batch", "completed")
    assert due.at == facts.ended_at


async def life(redis: Redis, keys: RedisKeys, batch_id: str) -> set[int]:
    names = [
        keys.batch(batch_id),
        keys.batch_lines(batch_id),
        keys.batch_outcomes(batch_id),
        keys.batch_ended(batch_id),
    ]
    return {round(await redis.ttl(name) / 10) * 10 for name in names}


async def test_everything_of_a_batch_expires_together_a_while_after_its_end(
    batches: BatchStore, redis: Redis, keys: RedisKeys
) -> None:
    made = await opened(batches, total=2)
    assert {await redis.ttl(keys.batch(made.id)), await redis.ttl(keys.batch_lines(made.id))} <= {1100, 1099}
    await batches.end_line(made, 1, DONE)
    assert await life(redis, keys, made.id) == {1100}
    await batches.begin_line(made.id, 10)
    assert await redis.ttl(keys.batch_running(made.id)) >= 1099
    await batches.end_line(made, 10, DONE)
    assert await life(redis, keys, made.id) == {100}
    assert not await redis.exists(keys.batch_running(made.id))


async def test_the_places_of_batches_live_as_long_as_the_longest_of_them(
    batches: BatchStore, redis: Redis, keys: RedisKeys
) -> None:
    names = (keys.batches, keys.open_batches("me"), keys.batches_of("me"))
    short = BatchStore(redis, keys, BatchConfig(10, 10, 9))
    await short.open(record(1), lines())
    assert {await redis.ttl(name) for name in names} <= {20, 19}
    await opened(batches, 2)
    await short.open(record(3), lines())
    assert min([await redis.ttl(name) for name in names]) >= 1099


async def test_batches_are_listed_newest_first_by_pages(batches: BatchStore, redis: Redis, keys: RedisKeys) -> None:
    many = BatchStore(redis, keys, BatchConfig(1000, 100, 9))
    for number in range(1, 6):
        await many.open(record(number), lines())
    await redis.delete(keys.batch(record(4).id))
    found, cursor = [], None
    for _ in range(3):
        page, cursor = await many.page("me", cursor, 2)
        found.append([int(facts.record.id, 16) for facts in page])
    assert found == [[5], [3, 2], [1]]
    assert cursor is None
    assert await many.page("other", None, 2) == ([], None)
    with pytest.raises(InvalidOption):
        await many.page("me", "1", 2)


async def test_one_process_has_the_lease_of_a_batch_until_it_gives_it_back(batches: BatchStore) -> None:
    made = await opened(batches)
    mine, others = batches.lease(made.id, 5.0), batches.lease(made.id, 5.0)
    assert await mine.mine()
    assert not await others.mine()
    await mine.end()
    assert await batches.lease(made.id, 5.0).mine()
