"""Deliveries as the scripts keep them: claimed once, then over or tried again, whatever an earlier end says."""

import pytest
from redis.asyncio import Redis

from service.contracts import JobRequest, JobState
from service.errors import BackendFailed
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from service.queue.webhook_queue import WebhookDelivery, WebhookQueue
from testing.factories import record

FAILED = Outcome(JobState.FAILED, error=BackendFailed("the network said no"))


@pytest.fixture
def queue(redis: Redis, keys: RedisKeys) -> WebhookQueue:
    return WebhookQueue(redis, keys)


@pytest.fixture
async def delivery(store: JobStore, queue: WebhookQueue) -> WebhookDelivery:
    """The delivery of a job that has ended, claimed for a minute."""
    job = record(request=JobRequest(webhook="https://example.com/hook"), owner="app")
    await store.accept(job)
    await store.finish(job.id, FAILED)
    [claimed] = await queue.claim(8, 60.0)
    assert claimed.job_id == job.id
    return claimed


async def due(redis: Redis, keys: RedisKeys) -> int:
    return int(await redis.zcard(keys.webhooks))


async def test_a_claimed_delivery_says_what_ended_and_is_no_other_process_s(
    delivery: WebhookDelivery, queue: WebhookQueue
) -> None:
    assert (delivery.url, delivery.owner, delivery.state) == ("https://example.com/hook", "app", JobState.FAILED)
    assert delivery.attempts == 1
    assert await queue.claim(8, 60.0) == []


async def test_a_claim_takes_no_more_than_it_asks_for(store: JobStore, queue: WebhookQueue) -> None:
    for _ in range(3):
        job = record(request=JobRequest(webhook="https://example.com/hook"))
        await store.accept(job)
        await store.finish(job.id, FAILED)
    assert [len(await queue.claim(2, 60.0)) for _ in range(3)] == [2, 1, 0]


async def test_a_claim_forgets_a_delivery_that_is_gone(
    delivery: WebhookDelivery, queue: WebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    await queue.again(delivery, -1.0)
    await redis.delete(keys.webhook(delivery.job_id))
    assert await queue.claim(8, 60.0) == []
    assert await due(redis, keys) == 0


async def test_a_delivery_that_has_arrived_leaves_nothing(
    delivery: WebhookDelivery, queue: WebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    await queue.done(delivery)
    assert await due(redis, keys) == 0
    assert not await redis.exists(keys.webhook(delivery.job_id))


async def test_a_delivery_is_tried_again_with_one_attempt_more(delivery: WebhookDelivery, queue: WebhookQueue) -> None:
    await queue.again(delivery, 60.0)
    assert await queue.claim(8, 60.0) == [], "its time has not come"
    await queue.again(delivery, -1.0)
    assert [one.attempts for one in await queue.claim(8, 60.0)] == [2]


async def test_a_delivery_that_was_not_tried_has_not_used_an_attempt(
    delivery: WebhookDelivery, queue: WebhookQueue
) -> None:
    await queue.postpone(delivery, -1.0)
    assert [one.attempts for one in await queue.claim(8, 60.0)] == [1]


@pytest.mark.parametrize("step", ["done", "again"])
async def test_what_became_of_an_earlier_end_says_nothing_of_the_present_one(
    delivery: WebhookDelivery, queue: WebhookQueue, redis: Redis, keys: RedisKeys, step: str
) -> None:
    earlier = WebhookDelivery(
        delivery.job_id, delivery.url, delivery.owner, delivery.state, at=delivery.at - 1.0, attempts=7
    )
    before = await redis.zrange(keys.webhooks, 0, -1, withscores=True)
    await (queue.done(earlier) if step == "done" else queue.again(earlier, -1.0))
    assert await redis.zrange(keys.webhooks, 0, -1, withscores=True) == before
    assert await redis.hget(keys.webhook(delivery.job_id), "attempts") == b"1"
