"""Webhooks over a real Redis to a real receiver."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from redis.asyncio import Redis
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from service.api.shares import Shares
from service.api.webhook_message import asked_for, signing_secret
from service.api.webhook_sender import BREAK_AFTER, WebhookConfig, Webhooks, retry_in
from service.contracts import BatchLine, BatchRecord, JobRequest, JobState, LineOutcome
from service.errors import BackendFailed, InvalidOption
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetters
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.redis_keys import RedisKeys
from service.queue.webhook_queue import WebhookDelivery, WebhookQueue
from service.sources.addresses import PinnedBackend
from testing.factories import record
from tests.fixtures.keyspace import names_like
from tests.fixtures.replies import with_scores
from tests.integration.test_dead_letters import buried

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
CONFIG = WebhookConfig(
    webhook_secret=SECRET,
    webhook_private_targets=True,
    webhook_timeout_s=2.0,
    webhook_retry_s=0.05,
    webhook_give_up_s=3600.0,
)
FAILED = Outcome(JobState.FAILED, error=BackendFailed("x"))


@dataclass
class Receiver:
    """An HTTP server that answers with the next of `statuses`, the last one again and again."""

    statuses: list[int]
    location: str = ""
    retry_after: str = ""
    port: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
        self.requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses[min(len(self.requests), len(self.statuses)) - 1]
        location = f"Location: {self.location}\r\n" if self.location else ""
        location += f"Retry-After: {self.retry_after}\r\n" if self.retry_after else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()


Receive = Callable[..., Awaitable[Receiver]]
Hang = Callable[[], Awaitable[str]]


@pytest.fixture
async def receive() -> AsyncIterator[Receive]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*statuses: int, location: str = "") -> Receiver:
            receiver = Receiver(list(statuses), location)
            server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            receiver.port = server.sockets[0].getsockname()[1]
            return receiver

        yield start


@pytest.fixture
def queue(redis: Redis, keys: RedisKeys) -> WebhookQueue:
    return WebhookQueue(redis, keys)


async def ended(store: JobStore, url: str, owner: str = "app") -> str:
    job = record(request=JobRequest(webhook=url), owner=owner)
    await store.accept(job)
    await store.finish(job.id, FAILED)
    return job.id


async def left(redis: Redis, keys: RedisKeys) -> set[bytes]:
    return await names_like(redis, f"{keys.prefix}:webhook*")


async def delivered(webhooks: Webhooks[WebhookDelivery], redis: Redis, keys: RedisKeys) -> None:
    """Deliver until nothing is left to deliver."""
    while await left(redis, keys):
        await webhooks.deliver()


async def test_a_receiver_that_fails_three_times_gets_its_message_and_can_verify_it(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(500, 503, 429, 204)
    job_id = await ended(store, receiver.url)
    await delivered(Webhooks(CONFIG, PerPartition([queue])), redis, keys)
    assert len(receiver.requests) == 4
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    headers, body = receiver.requests[-1]
    message = Webhook(signing_secret(SECRET, "app")).verify(body, headers)
    assert message["type"] == "job.failed"
    assert message["data"] == {"id": job_id, "status": "failed"}
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_secret(SECRET, "other")).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_secret(SECRET, "app")).verify(body.replace(b"failed", b"passed"), headers)


async def test_a_job_without_a_webhook_leaves_nothing_to_deliver(
    store: JobStore, redis: Redis, keys: RedisKeys
) -> None:
    job = record()
    await store.accept(job)
    await store.finish(job.id, FAILED)
    assert await left(redis, keys) == set()


async def test_a_job_that_finishes_twice_tells_once(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(200)
    job_id = await ended(store, receiver.url)
    await delivered(Webhooks(CONFIG, PerPartition([queue])), redis, keys)
    await store.finish(job_id, FAILED)
    assert await left(redis, keys) == set()


async def test_a_job_that_becomes_a_dead_letter_tells_too(
    store: JobStore, dead: DeadLetters, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(200)
    await buried(store, dead, request=JobRequest(webhook=receiver.url))
    await delivered(Webhooks(CONFIG, PerPartition([queue])), redis, keys)
    assert json.loads(receiver.requests[0][1])["type"] == "job.failed"


async def test_a_sender_that_dies_leaves_its_delivery_to_another(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(200)
    await ended(store, receiver.url)
    [claimed] = await queue.claim(9, lease_s=0.2)
    assert await queue.claim(9, lease_s=0.2) == [], "nobody else gets it meanwhile"
    await delivered(Webhooks(CONFIG, PerPartition([queue])), redis, keys)
    assert [headers["webhook-id"] for headers, _ in receiver.requests] == [claimed.message_id]


async def test_two_senders_make_one_try(store: JobStore, queue: WebhookQueue, receive: Receive) -> None:
    receiver = await receive(200)
    await ended(store, receiver.url)
    await asyncio.gather(*(Webhooks(CONFIG, PerPartition([queue])).deliver() for _ in range(4)))
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys, status: int
) -> None:
    inside = await receive(200)
    receiver = await receive(status, location=inside.url)
    await ended(store, receiver.url)
    await Webhooks(CONFIG, PerPartition([queue])).deliver()
    assert (len(receiver.requests), inside.requests) == (1, [])
    assert await left(redis, keys)


async def test_a_private_target_gets_nothing_unless_it_is_allowed(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(200)
    await ended(store, receiver.url)
    await Webhooks(replace(CONFIG, webhook_private_targets=False), PerPartition([queue])).deliver()
    assert receiver.requests == []
    assert await left(redis, keys)


async def test_a_name_that_rebinds_between_tries_gets_nothing(
    store: JobStore, queue: WebhookQueue, receive: Receive
) -> None:
    receiver = await receive(200)
    answers = [[], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    await ended(store, f"http://rebinding.example:{receiver.port}/hook")
    webhooks = Webhooks(CONFIG, PerPartition([queue]), PinnedBackend(private=False, resolve=rebinding))
    while answers:
        await webhooks.deliver()
    assert receiver.requests == []


@pytest.mark.parametrize(("status", "config"), [(410, CONFIG), (500, replace(CONFIG, webhook_give_up_s=0.0))])
async def test_a_delivery_is_given_up_when_its_receiver_is_gone_or_its_time_is_over(
    store: JobStore,
    queue: WebhookQueue,
    receive: Receive,
    redis: Redis,
    keys: RedisKeys,
    status: int,
    config: WebhookConfig,
) -> None:
    receiver = await receive(status)
    await ended(store, receiver.url)
    await Webhooks(config, PerPartition([queue])).deliver()
    assert len(receiver.requests) == 1
    assert await left(redis, keys) == set()


async def test_a_receiver_that_never_answers_is_tried_again(
    store: JobStore, queue: WebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await ended(store, f"http://127.0.0.1:{port}/")
        await Webhooks(replace(CONFIG, webhook_timeout_s=0.2), PerPartition([queue])).deliver()
    assert await left(redis, keys)


async def test_deleting_a_job_drops_its_delivery(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(500)
    job_id = await ended(store, receiver.url)
    [claimed] = await queue.claim(9, lease_s=5)
    await store.cancel(job_id)
    await queue.again(claimed, 0.0)
    assert await left(redis, keys) == set()


async def test_what_is_kept_for_a_delivery_expires(store: JobStore, redis: Redis, keys: RedisKeys) -> None:
    job_id = await ended(store, "https://example.com/")
    assert await redis.ttl(keys.webhook(job_id)) > 0
    await redis.delete(keys.webhook(job_id))
    assert await WebhookQueue(redis, keys).claim(9, 5) == []
    assert await redis.zcard(keys.webhooks) == 0


def test_waits_grow_to_hours() -> None:
    config = replace(CONFIG, webhook_retry_s=5.0)
    waits = [retry_in(attempts, config) for attempts in (1, 2, 6, 7, 50)]
    for wait, middle in zip(waits, (5, 20, 5120, 20480, 21600), strict=True):
        assert 0.8 * middle <= wait <= 1.2 * middle


def test_without_a_secret_no_webhook_is_taken() -> None:
    webhooks = Webhooks[WebhookDelivery](replace(CONFIG, webhook_secret=None), PerPartition([]))
    webhooks.check(None)
    with pytest.raises(InvalidOption, match="has no webhooks"):
        webhooks.check("https://example.com/")


@pytest.fixture
async def hanging() -> AsyncIterator[Hang]:
    """Receivers that take a connection and never answer; each has an address of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

        async def start() -> str:
            server = await stack.enter_async_context(await asyncio.start_server(silent, "127.0.0.1", 0))
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        yield start


SLOW = replace(CONFIG, webhook_timeout_s=60.0, webhook_concurrency=8)


async def arrived(receiver: Receiver, webhooks: Webhooks[WebhookDelivery], count: int = 1) -> None:
    """Look for what is due, as a process does, until the receiver has its messages."""
    while len(receiver.requests) < count:
        await webhooks._begin()
        await asyncio.sleep(0.01)


async def abandoned(webhooks: Webhooks[WebhookDelivery]) -> None:
    """End the tries that would hang on."""
    for trying in webhooks._tries:
        trying.cancel()
    await asyncio.gather(*webhooks._tries, return_exceptions=True)


async def test_receivers_of_one_caller_that_hang_do_not_delay_another_s(
    store: JobStore, queue: WebhookQueue, receive: Receive, hanging: Hang
) -> None:
    for _ in range(48):
        await ended(store, await hanging(), owner="flood")
    receiver = await receive(200)
    await ended(store, receiver.url, owner="good")
    webhooks = Webhooks(SLOW, PerPartition([queue]), shares=Shares(0.75))
    async with asyncio.timeout(20):
        await arrived(receiver, webhooks)
    assert len(webhooks._tries) <= 7, "none of the others has ended"
    await abandoned(webhooks)


async def test_a_place_that_is_free_takes_the_next_while_others_hang(
    store: JobStore, queue: WebhookQueue, receive: Receive, hanging: Hang
) -> None:
    await ended(store, await hanging(), owner="a")
    receiver = await receive(200)
    for _ in range(20):
        await ended(store, receiver.url, owner="a")
    webhooks = Webhooks(SLOW, PerPartition([queue]))
    async with asyncio.timeout(20):
        await arrived(receiver, webhooks, 20)
    await abandoned(webhooks)


async def test_a_host_that_hangs_leaves_places_to_other_hosts_of_its_caller(
    store: JobStore, queue: WebhookQueue, receive: Receive, hanging: Hang
) -> None:
    url = await hanging()
    for _ in range(20):
        await ended(store, url, owner="a")
    receiver = await receive(200)
    await ended(store, receiver.url, owner="a")
    webhooks = Webhooks(SLOW, PerPartition([queue]), shares=Shares(0.75, only_one=lambda: True))
    async with asyncio.timeout(20):
        await arrived(receiver, webhooks)
    await abandoned(webhooks)


async def test_a_host_that_failed_three_times_gets_one_try_at_a_time(
    store: JobStore, queue: WebhookQueue, receive: Receive
) -> None:
    receiver = await receive(500)
    webhooks = Webhooks(replace(CONFIG, webhook_retry_s=3600.0), PerPartition([queue]))
    for _ in range(BREAK_AFTER):
        await ended(store, receiver.url)
        await webhooks.deliver()
    for _ in range(5):
        await ended(store, receiver.url)
    await webhooks.deliver()
    assert len(receiver.requests) == BREAK_AFTER + 1
    receiver.statuses = [200]
    async with asyncio.timeout(20):
        await arrived(receiver, webhooks, BREAK_AFTER + 5)


async def test_a_delivery_that_found_no_place_has_not_been_tried(
    store: JobStore, queue: WebhookQueue, redis: Redis, keys: RedisKeys
) -> None:
    job_id = await ended(store, "https://example.com/")
    [claimed] = await queue.claim(9, 5)
    await queue.postpone(claimed, 0.0)
    [again] = await queue.claim(9, 5)
    assert again.attempts == claimed.attempts == 1
    await redis.delete(keys.webhook(job_id))
    await queue.postpone(again, 0.0)
    assert not await redis.exists(keys.webhook(job_id))


async def test_a_receiver_that_asks_for_time_gets_it(
    store: JobStore, queue: WebhookQueue, receive: Receive, redis: Redis, keys: RedisKeys
) -> None:
    receiver = await receive(429)
    receiver.retry_after = "500"
    await ended(store, receiver.url)
    await Webhooks(CONFIG, PerPartition([queue])).deliver()
    [(_, due)] = with_scores(await redis.zrange(keys.webhooks, 0, -1, withscores=True))
    assert 490 < due - time.time() <= 500


@pytest.mark.parametrize(("value", "seconds"), [("30", 30), ("Thu, 01 Jan 1970 00:02:00 GMT", 20), ("soon", 0)])
def test_a_time_to_wait_is_read_as_seconds_or_as_a_date(value: str, seconds: float) -> None:
    assert asked_for([(b"Retry-After", value.encode())], now=100.0) == seconds


async def test_a_webhook_of_a_batch_says_how_the_batch_ended(redis: Redis, keys: RedisKeys, receive: Receive) -> None:
    receiver, batches = await receive(200), BatchStore(redis, keys, BatchConfig(100, 100, 9))
    made = BatchRecord(id=32 * "a", owner="me", key_name="", identity="", digest="", total=1, webhook=receiver.url)
    await batches.open(made, [BatchLine(line=1, url="https://a/b", options=JobRequest())])
    await batches.end_line(made, 1, LineOutcome(status="failed"))
    await batches.close(await batches.facts(made.id))
    await Webhooks(CONFIG, PerPartition([WebhookQueue(redis, keys, "batch")])).deliver()
    [(_, body)] = receiver.requests
    assert json.loads(body)["type"] == "batch.completed"
    assert json.loads(body)["data"] == {"id": made.id, "status": "completed"}
    assert not await redis.exists(keys.batch_webhooks, keys.batch_webhook(made.id))
