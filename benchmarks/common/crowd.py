"""A queue that many processes share, and every step that changes it, taken beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from service.contracts import (
    BatchLine,
    BatchRecord,
    DeadLetter,
    JobClass,
    JobRequest,
    JobState,
    LineOutcome,
    WorkerStatus,
)
from service.errors import BackendFailed
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.capacity import CapacityConfig, QueueCapacity, Reservation
from service.queue.clip_routes import route_of
from service.queue.clip_stream import ClipStream
from service.queue.codec import Outcome
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.idempotency import Claim, IdempotencyConfig, IdempotencyKeys
from service.queue.job_intake import JobTtlConfig, Stage
from service.queue.job_store import JobStore
from service.queue.lead import Lead
from service.queue.live_streams import LiveStreams, LiveTimes
from service.queue.model_directory import ModelDirectory
from service.queue.redis_keys import GROUP, RedisKeys
from service.queue.scripts import Script
from service.queue.stream_webhooks import StreamWebhookQueue
from service.queue.turns import Turn
from service.queue.webhook_queue import WebhookQueue
from testing.factories import clip, decoded, record, scores, spec

SERVED = spec(route=route_of(spec()))
LIFE_S = 3600
TIMES = JobTtlConfig(
    payload_ttl_s=LIFE_S,
    result_ttl_s=LIFE_S,
    tombstone_ttl_s=LIFE_S,
    idempotency_ttl_s=LIFE_S,
    reservation_ttl_s=float(LIFE_S),
)
LIMITS = CapacityConfig(
    max_queue_clips=10**7,
    max_queue_bytes=10**12,
    max_wait_share=1.0,
    reservation_ttl_s=float(LIFE_S),
    worker_interactive_weight=4,
    caller_share=0.75,
)
LETTERS = DeadLetterConfig(dead_letter_ttl_s=LIFE_S, dead_letter_max_jobs=1000, dead_letter_max_bytes=1 << 30)
BATCHES = BatchConfig(batch_deadline_s=LIFE_S, batch_ttl_s=LIFE_S, max_open_batches=10**6)
HOOK = "https://example.com/hook"
FAILED = Outcome(JobState.FAILED, error=BackendFailed("The engine failed."))
AT_ONCE = 50
WAIT_MS = LIFE_S * 1000

Measure = Callable[[str, Awaitable[Any]], Awaitable[Any]]
"""called with the name of a step and the step"""


def batch(number: int, owner: str) -> tuple[BatchRecord, list[BatchLine]]:
    """A batch of one line."""
    batch_id = f"{number:032x}"
    made = BatchRecord(id=batch_id, owner=owner, key_name=owner, identity=f"key:{owner}", digest="", total=1)
    return made, [BatchLine(line=1, url="https://example.com/film.mp4", options=JobRequest())]


class Crowd:
    """So many workers, API processes, uploads in flight and jobs in flight, all of others than the caller of steps."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._store = JobStore(redis, keys, TIMES)
        self._directory = ModelDirectory(redis, keys)
        self._capacity = QueueCapacity(redis, keys, LIMITS)
        self._listening = redis.pubsub()
        self.size = 0

    async def grow(self, size: int) -> None:
        """Let there be `size` of each."""
        await ClipStream(self._redis, self._keys, "").join([SERVED.route, "tiny"])
        numbers = range(self.size, size)
        for first in range(numbers.start, numbers.stop, AT_ONCE):
            await asyncio.gather(*map(self._add, range(first, min(first + AT_ONCE, numbers.stop))))
        for first in range(numbers.start, numbers.stop, AT_ONCE):
            some = range(first, min(first + AT_ONCE, numbers.stop))
            channels = [of(f"api{i}") for i in some for of in (self._keys.reply_channel, self._keys.ended_channel)]
            await self._listening.subscribe(*channels)
        self.size = size

    async def close(self) -> None:
        """End the subscriptions."""
        await self._listening.aclose()

    async def _add(self, number: int) -> None:
        worker, caller = f"worker{number}", f"caller{number}"
        status = WorkerStatus(worker=worker, models=("tiny:1",), routes=(SERVED.route,), clips_per_s={"tiny": 10.0})
        await self._directory.announce([SERVED], status, LIFE_S)
        upload = Reservation(f"{number:032x}", JobClass.BULK, 1, SERVED.clip_bytes, "tiny", caller)
        await self._capacity.reserve(upload, [SERVED], None, LIFE_S)
        job = record(spec=SERVED, job_class=JobClass.BULK, owner=caller, deadline_s=LIFE_S)
        held = Reservation(job.id, JobClass.BULK, 1, SERVED.clip_bytes, "tiny", caller)
        await self._store.accept(job, clips=memoryview(clip(0)), reservation=held, reply_to=f"api{number}")
        stream = ClipStream(self._redis, self._keys, worker)
        await stream.lead.take([SERVED.route], WAIT_MS)
        interactive = self._keys.clips(SERVED.route, JobClass.INTERACTIVE)
        await self._redis.xgroup_createconsumer(interactive, GROUP, stream.consumer)
        await stream.take([(JobClass.BULK, SERVED.route, 1)])
        await BatchStore(self._redis, self._keys, BATCHES).open(*batch(number, caller))
        await self._redis.zadd(self._keys.webhooks, {f"{number:032x}": time.time() + LIFE_S})


class Steps:
    """What one API process and one worker do, from the announcement of a model to a webhook."""

    def __init__(self, redis: Redis, keys: RedisKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._store = JobStore(redis, keys, TIMES)
        self._directory = ModelDirectory(redis, keys)
        self._capacity = QueueCapacity(redis, keys, LIMITS)
        self._dead = DeadLetters(redis, keys, TIMES, LETTERS)
        self._idempotency = IdempotencyKeys(redis, keys, IdempotencyConfig(LIFE_S, float(LIFE_S)))
        self._stream = ClipStream(redis, keys, "mine")
        self._follower = Lead(redis, keys, "follower")
        self._touch = Script(redis, "touch_job")

    async def once(self, measure: Measure) -> None:
        """Every step once, each awaited by `measure`."""
        await self._serve(measure)
        await self._admit(measure)
        await self._score(measure)
        await self._fail(measure)
        await self._stage(measure)
        await self._tell(measure)
        await self._batch(measure)
        await self._keep(measure)

    async def _serve(self, measure: Measure) -> None:
        for rate in (10.0, 11.0):
            status = WorkerStatus(worker="mine", models=("tiny:1",), routes=(SERVED.route,), clips_per_s={"tiny": rate})
            await measure("announce", self._directory.announce([SERVED], status, LIFE_S))
        await measure("live", self._directory.live())

    async def _admit(self, measure: Measure) -> None:
        claim = await measure("claim_key", self._idempotency.claim("key", "j" * 32, "me"))
        assert isinstance(claim, Claim)
        await measure("renew_keys", self._idempotency.renew([claim]))
        await measure("lead_key", self._idempotency.lead(claim, "j" * 32, ""))
        again = await self._idempotency.claim("other", "k" * 32, "me")
        assert isinstance(again, Claim)
        await measure("release_key", self._idempotency.release(again))
        await self._redis.delete(claim.key)
        upload = Reservation("a" * 32, JobClass.INTERACTIVE, 1, SERVED.clip_bytes, "tiny", "me")
        await measure("reserve", self._capacity.reserve(upload, [SERVED], 1e9, 60.0))
        await measure("renew_capacity", self._capacity.renew([upload]))
        await measure("release_capacity", self._capacity.release(upload))
        await measure("drop_reservations", self._capacity.drop([upload]))

    async def _accepted(self, measure: Measure, windows: int = 2) -> str:
        job = record(
            spec=SERVED,
            decoded=decoded(windows=windows),
            owner="me",
            request=record().request.model_copy(update={"webhook": HOOK}),
        )
        held = Reservation(job.id, JobClass.INTERACTIVE, windows, SERVED.clip_bytes, "tiny", "me")
        await self._capacity.reserve(held, [SERVED], 1e9, 60.0)
        pixels = memoryview(b"".join(map(clip, range(windows))))
        await measure("accept", self._store.accept(job, clips=pixels, reservation=held, reply_to="mine"))
        return job.id

    async def _score(self, measure: Measure) -> None:
        job = await self._accepted(measure)
        await self._follower.take([SERVED.route], WAIT_MS)
        await measure("take_lead", self._stream.lead.take([SERVED.route], 1))
        await measure("touch_job", self._touch(keys={"job": self._keys.job(job)}, args={}))
        order = [(JobClass.INTERACTIVE, SERVED.route, 8)]
        delivery = await measure("take", self._stream.take(order))
        first, second = delivery.entries
        await measure("pass_lead", self._stream.lead.pass_on())
        await measure("look_up", self._stream.look_up([first, second]))
        await measure("renew_lease", self._stream.renew([first, second]))
        await measure("record_fault", self._store.record_failure(job, "It went wrong."))
        await self._stream.nack([second])
        [second] = await measure("reclaim", self._stream.reclaim(SERVED.route, 30.0, 8))
        await measure("record_scores", self._store.record_scores({(job, 0): scores()}, [first]))
        await measure("finish", self._store.finish(job, FAILED))
        await measure("dismiss", self._stream.ack([second]))

    async def _fail(self, measure: Measure) -> None:
        job = await self._accepted(measure, 1)
        [entry] = (await self._stream.take([(JobClass.INTERACTIVE, SERVED.route, 8)])).entries
        letter = DeadLetter(
            job_id=job,
            clip=0,
            code="backend_failed",
            detail="",
            model="tiny",
            version="1",
            deliveries=3,
            created_at=0.0,
            clip_bytes=SERVED.clip_bytes,
        )
        await measure("add_dead_letter", self._dead.add(letter, FAILED))
        await self._stream.ack([entry])
        await measure("replay", self._dead.replay(job))
        [entry] = (await self._stream.take([(JobClass.INTERACTIVE, SERVED.route, 8)])).entries
        await self._dead.add(letter, FAILED)
        await self._stream.ack([entry])
        await measure("trim_dead_letters", self._dead.trim())
        await measure("drop_dead_letter", self._dead.drop(job))
        await measure("cancel", self._store.cancel(job))

    async def _stage(self, measure: Measure) -> None:
        job = record(spec=SERVED, decoded=decoded(windows=2), owner="me")
        whole = Reservation(job.id, JobClass.INTERACTIVE, 2, SERVED.clip_bytes, "tiny", "me")
        left = replace(whole, clips=1)
        await self._capacity.reserve(whole, [SERVED], 1e9, 60.0)
        await self._store.accept(job, clips=memoryview(clip(0)), reservation=whole, stage=Stage(1, left))
        last = self._store.add_clips(job, memoryview(clip(1)), first=1, reservation=left, stage=None)
        await measure("add_clips", last)
        await self._store.cancel(job.id)
        await self._stream.ack((await self._stream.take([(JobClass.INTERACTIVE, SERVED.route, 8)])).entries)

    async def _tell(self, measure: Measure) -> None:
        await self._redis.delete(self._keys.turn("webhooks"))
        queue = WebhookQueue(self._redis, self._keys)
        [due] = await measure("claim_webhooks", queue.claim(9, 5.0))
        await measure("webhook_again", queue.again(due, -1.0))
        [due] = await queue.claim(9, 5.0)
        await measure("webhook_done", queue.done(due))
        await self._redis.delete(self._keys.turn("stream-webhooks"))
        live = LiveStreams(self._redis, self._keys, LiveTimes(10.0, 30.0, 60))
        events = StreamWebhookQueue(self._redis, self._keys)
        await live.create("told", "me", {}, 0.0, pulled=False, webhook="https://example.com/hook")
        await live.hold("told", "mine", "take", event={"event": "window", "data": {}})
        [event] = await measure("claim_stream_webhooks", events.claim(9, 5.0))
        await measure("stream_webhook_again", events.again(event, -1.0))
        [event] = await events.claim(9, 5.0)
        await measure("stream_webhook_done", events.done(event))
        await self._redis.delete(self._keys.live("told"), self._keys.live_events("told"))

    async def _batch(self, measure: Measure) -> None:
        batches = BatchStore(self._redis, self._keys, BATCHES)
        made, lines = batch(1 << 64, "me")
        await measure("open_batch", batches.open(made, lines))
        await measure("begin_line", batches.begin_line(made.id, 1, "b" * 32))
        await measure("end_line", batches.end_line(made, 1, LineOutcome(status="succeeded")))
        await self._redis.delete(self._keys.batch(made.id), self._keys.batch_outcomes(made.id))

    async def _keep(self, measure: Measure) -> None:
        turn = Turn(self._redis, self._keys, "chore", 1.0)
        await measure("take_turn", turn.mine())
        await measure("end_turn", turn.end())
        await measure("overdue", self._store.expire_overdue())
        live = LiveStreams(self._redis, self._keys, LiveTimes(10.0, 30.0, 60))
        await live.create("watched", "me", {}, 0.0, pulled=False)
        await measure("hold_stream", live.hold("watched", "mine", "take", event={"event": "window"}))
        await measure("clear_streams", self._directory.clear())
        await measure("leave_group", self._stream.leave([SERVED.route]))
        await measure("withdraw", self._directory.withdraw("mine"))
