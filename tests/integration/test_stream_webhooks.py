"""Events of a live stream on their way to a webhook: one at a time, in their order, once or more."""

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from service.api.webhook_sender import Webhooks
from service.queue.live_streams import LiveStreams, LiveTimes
from service.queue.partitions import PerPartition
from service.queue.redis_keys import RedisKeys
from service.queue.stream_webhooks import StreamDelivery, StreamWebhookQueue
from tests.integration.test_webhooks import CONFIG, Receive, receive

__all__ = ["receive"]

TIMES = LiveTimes(stream_lease_s=100.0, stream_idle_s=30.0, stream_keep_s=300)
URL = "https://example.com/hook"


def window(number: int) -> dict[str, Any]:
    return {"event": "window", "data": {"number": number}}


@pytest.fixture
def queue(redis: Redis, keys: RedisKeys) -> StreamWebhookQueue:
    return StreamWebhookQueue(redis, keys)


@pytest.fixture
async def streams(redis: Redis, keys: RedisKeys) -> LiveStreams:
    live = LiveStreams(redis, keys, TIMES)
    await live.create("s", "me", {}, 1000.5, pulled=False, webhook=URL)
    return live


async def tell(streams: LiveStreams, *events: dict[str, Any], ended: str = "") -> list[str]:
    """Ids of the events."""
    return [(await streams.hold("s", "a", "take", event=event, ended=ended))[1] for event in events]


async def claimed(queue: StreamWebhookQueue) -> StreamDelivery:
    [delivery] = await queue.claim(8, 60.0)
    return delivery


async def test_the_first_event_is_claimed_by_one_process(
    streams: LiveStreams, queue: StreamWebhookQueue, redis: Redis
) -> None:
    first, _ = await tell(streams, window(0), window(1))
    delivery = await claimed(queue)
    assert (delivery.url, delivery.owner, delivery.attempts) == (URL, "me", 1)
    assert delivery.message_id == f"s-{first}"
    assert delivery.type == "stream.window"
    assert delivery.data == {"id": "s", "event_id": first, "sequence": 1, **window(0)}
    now, _ = await redis.time()
    assert now - 10 < delivery.at < now + 10
    assert delivery.age_s < 10
    assert await queue.claim(8, 60.0) == []


async def test_a_state_is_the_type_of_its_message(streams: LiveStreams, queue: StreamWebhookQueue) -> None:
    await tell(streams, {"event": "state", "data": {"state": "ended", "reason": "end"}}, ended="end")
    assert (await claimed(queue)).type == "stream.ended"


async def test_a_stream_that_tells_nothing_is_not_due(streams: LiveStreams, queue: StreamWebhookQueue) -> None:
    await streams.hold("s", "a", "take")
    assert await queue.claim(8, 60.0) == []


async def test_a_stream_without_a_webhook_is_not_due(redis: Redis, keys: RedisKeys, queue: StreamWebhookQueue) -> None:
    live = LiveStreams(redis, keys, TIMES)
    await live.create("s", "me", {}, 1000.5, pulled=False)
    await tell(live, window(0))
    assert await redis.zcard(keys.stream_webhooks) == 0


async def test_a_claim_takes_no_more_than_it_asks_for(
    streams: LiveStreams, queue: StreamWebhookQueue, redis: Redis
) -> None:
    for stream_id in ("s", "t", "u"):
        if stream_id != "s":
            await streams.create(stream_id, "me", {}, 1000.5, pulled=False, webhook=URL)
        await streams.hold(stream_id, "a", "take", event=window(0))
    assert [len(await queue.claim(2, 60.0)) for _ in range(3)] == [2, 1, 0]


async def test_after_an_event_the_next_is_due_until_none_is_left(
    streams: LiveStreams, queue: StreamWebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    await tell(streams, window(0), window(1))
    assert await queue.done(await claimed(queue))
    second = await claimed(queue)
    assert (second.data["sequence"], second.data["data"], second.attempts) == (2, {"number": 1}, 1)
    assert not await queue.done(second)
    assert await redis.zcard(keys.stream_webhooks) == 0
    await tell(streams, window(2))
    assert (await claimed(queue)).data["data"] == {"number": 2}


async def test_an_event_that_is_told_during_a_delivery_does_not_make_it_due_again(
    streams: LiveStreams, queue: StreamWebhookQueue
) -> None:
    await tell(streams, window(0))
    delivery = await claimed(queue)
    await tell(streams, window(1))
    assert await queue.claim(8, 60.0) == []
    assert await queue.done(delivery)


async def test_an_event_is_tried_again_after_its_time_with_one_attempt_more(
    streams: LiveStreams, queue: StreamWebhookQueue
) -> None:
    [first] = await tell(streams, window(0))
    delivery = await claimed(queue)
    await queue.again(delivery, 60.0)
    assert await queue.claim(8, 60.0) == [], "its time has not come"
    await tell(streams, window(1))
    assert await queue.claim(8, 60.0) == [], "the next event does not come before it"
    await queue.again(delivery, -1.0)
    again = await claimed(queue)
    assert (again.event_id, again.attempts) == (first, 2)


async def test_a_delivery_that_was_not_tried_has_not_used_an_attempt(
    streams: LiveStreams, queue: StreamWebhookQueue
) -> None:
    await tell(streams, window(0))
    await queue.postpone(await claimed(queue), -1.0)
    assert (await claimed(queue)).attempts == 1


async def test_a_sender_that_stood_still_changes_nothing(
    streams: LiveStreams, queue: StreamWebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    await tell(streams, window(0), window(1))
    late = await claimed(queue)
    await queue.done(late)
    await queue.done(await claimed(queue))
    assert not await queue.done(late)
    await queue.again(late, -1.0)
    assert await redis.zcard(keys.stream_webhooks) == 0
    hook: Any = await redis.hgetall(keys.stream_webhook("s"))
    assert hook[b"after"].decode() != late.event_id
    assert hook[b"attempts"] == b"0"


async def test_a_receiver_that_is_gone_gets_nothing_more(
    streams: LiveStreams, queue: StreamWebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    await tell(streams, window(0), window(1))
    delivery = await claimed(queue)
    assert not await queue.done(delivery, gone=True)
    await tell(streams, window(2))
    await redis.zadd(keys.stream_webhooks, {"s": 0})
    assert await queue.claim(8, 60.0) == []
    assert await redis.zcard(keys.stream_webhooks) == 0


async def test_of_events_that_are_gone_the_first_that_is_kept_is_next(
    streams: LiveStreams, queue: StreamWebhookQueue
) -> None:
    for number in range(5):
        await streams.hold("s", "a", "take", event=window(number), most_events=2)
    delivery = await claimed(queue)
    assert (delivery.sequence, delivery.event["data"]["number"]) == (4, 3)


async def test_a_webhook_lives_as_long_as_the_events(streams: LiveStreams, redis: Redis, keys: RedisKeys) -> None:
    assert 400 < await redis.ttl(keys.stream_webhook("s")) <= 460
    await redis.expire(keys.stream_webhook("s"), 5)
    await streams.hold("s", "a", "take")
    assert 400 < await redis.ttl(keys.stream_webhook("s")) <= 460
    await tell(streams, window(0), ended="deleted")
    assert 200 < await redis.ttl(keys.stream_webhook("s")) <= 300


async def test_a_receiver_that_fails_gets_every_event_in_order(
    streams: LiveStreams, queue: StreamWebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(500, 200, 200, 503, 200)
    await redis.hset(keys.stream_webhook("s"), "url", receiver.url)
    await tell(streams, window(0), window(1), window(2))
    webhooks = Webhooks(CONFIG, PerPartition([queue]))
    while await redis.zcard(keys.stream_webhooks):
        await webhooks.deliver()
    said = [json.loads(body)["data"] for _, body in receiver.requests]
    assert [one["data"]["number"] for one in said] == [0, 0, 1, 2, 2]
    assert [one["sequence"] for one in said] == [1, 1, 2, 3, 3]
    ids = [headers["webhook-id"] for headers, _ in receiver.requests]
    assert ids == [f"s-{one['event_id']}" for one in said]


async def test_all_that_is_due_of_a_stream_is_delivered_by_one_look(
    streams: LiveStreams, queue: StreamWebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(200)
    await redis.hset(keys.stream_webhook("s"), "url", receiver.url)
    await tell(streams, *map(window, range(20)))
    await Webhooks(CONFIG, PerPartition([queue])).deliver()
    assert len(receiver.requests) == 20


async def test_a_receiver_that_says_gone_is_not_asked_again(
    streams: LiveStreams, queue: StreamWebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(410)
    await redis.hset(keys.stream_webhook("s"), "url", receiver.url)
    await tell(streams, *map(window, range(3)))
    for _ in range(3):
        await Webhooks(CONFIG, PerPartition([queue])).deliver()
    assert len(receiver.requests) == 1
