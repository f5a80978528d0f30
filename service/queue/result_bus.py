"""Wakes the waiters and followers of jobs.

One pub/sub connection per process, and a poll beside it because messages may get lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from service.errors import QueueUnavailable
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys

POLL_S = 1.0
RECONNECT_S = 0.5
# A connection that the network has silently dropped looks like an idle one, so idle connections are pinged.
SILENT_S = 10.0


class JobCompletion(asyncio.Event):
    """Set when a job has ended, unless the message is lost."""

    outcome: bytes | None = None
    """encoded; only where the message carried it"""


class ResultBus:
    """Wakes the waiters of this process when clips of their job were scored or the job has ended.

    Attributes:
        reply_to: name of this process' reply channel. The outcome of a job that was accepted with it is sent there.
    """

    def __init__(
        self, redis: Redis, keys: RedisKeys, store: JobStore, poll_s: float = POLL_S, silent_s: float = SILENT_S
    ) -> None:
        """It subscribes again after `silent_s` without a message, not even the reply to a ping."""
        self._redis = redis
        self._silent_s = silent_s
        self.reply_to = uuid4().hex
        self._reply_channel = keys.reply_channel(self.reply_to)
        self._finished = keys.finished
        self._progress = keys.progress
        self._store = store
        self._poll_s = poll_s
        self._completions: WeakValueDictionary[str, JobCompletion] = WeakValueDictionary()
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._release_at = math.inf
        self._wait_slices: set[asyncio.Timeout] = set()
        self._looks: dict[tuple[str, bool], asyncio.Future[Outcome | None]] = {}

    async def start(self) -> None:
        """Subscribe. Call once."""
        self._listener = asyncio.create_task(self._listen(), name="result-bus")

    async def close(self) -> None:
        """Stop listening; waiters continue by polling."""
        while self._listener is not None and not self._listener.done():
            # Repeated: in Python 3.11 a cancellation that meets the end of a Redis command is lost.
            self._listener.cancel()
            await asyncio.wait({self._listener}, timeout=RECONNECT_S)

    def completion(self, job_id: str) -> JobCompletion:
        """The completion of a job. Messages set it for as long as the caller holds it."""
        completion = self._completions.get(job_id)
        if completion is None:
            completion = self._completions[job_id] = JobCompletion()
        return completion

    def release_waiters(self, after_s: float) -> None:
        """End every present and future wait after `after_s` seconds. May be called in a signal handler."""
        self._release_at = min(self._release_at, time.monotonic() + after_s)
        for wait_slice in self._wait_slices:
            if not wait_slice.expired() and (wait_slice.when() or 0.0) > self._release_at:
                wait_slice.reschedule(self._release_at)

    async def wait(self, job_id: str, timeout_s: float, unended: JobCompletion | None = None) -> Outcome | None:
        """The job's outcome, or None when there is none after `timeout_s`, or none that can be read.

        `unended` is the completion of a job, taken before the job was accepted. It saves the first read of Redis, and
        the last one too where the outcome comes over the reply channel.
        """
        loop = asyncio.get_running_loop()
        end, look = loop.time() + timeout_s, unended is None
        ended = unended or self.completion(job_id)
        while True:
            if unended is not None and unended.outcome is not None:
                return Outcome.decode(unended.outcome)
            outcome, notified = None, ended.is_set()
            if look or notified:
                # An accepted job survives a restart of Redis, and so does the wait for it.
                with contextlib.suppress(QueueUnavailable):
                    outcome = await self._look(job_id, notified)
            left, look = min(end, self._release_at) - loop.time(), True
            if outcome is not None or left <= 0:
                return outcome
            # A completed job without an outcome means that Redis is unreachable: reading again at once would fail too.
            await self._wait_slice(min(self._poll_s, left), asyncio.Event() if notified else ended)

    async def _look(self, job_id: str, notified: bool) -> Outcome | None:
        """The outcome in Redis. Concurrent callers share one read, unless it began before one knew of the end."""
        look = self._looks.get((job_id, notified))
        if look is None:
            look = self._looks[job_id, notified] = asyncio.ensure_future(self._store.outcome(job_id))
            look.add_done_callback(lambda done: self._looked(job_id, notified, done))
        return await asyncio.shield(look)

    def _looked(self, job_id: str, notified: bool, look: asyncio.Future[Outcome | None]) -> None:
        del self._looks[job_id, notified]
        if not look.cancelled():
            # Retrieved, so that asyncio does not complain where all callers have left.
            look.exception()

    async def _wait_slice(self, seconds: float, event: asyncio.Event) -> None:
        # Its own timeout scope, which `release_waiters` shortens; nothing but this wait ends with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as wait_slice:
                self._wait_slices.add(wait_slice)
                try:
                    await event.wait()
                finally:
                    self._wait_slices.discard(wait_slice)

    @contextlib.contextmanager
    def following(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever clips of the job were scored or it has ended, unless a message is lost."""
        event = asyncio.Event()
        self._followers[job_id].add(event)
        try:
            yield event
        finally:
            self._followers[job_id].discard(event)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._reply_channel, self._finished, self._progress)
                    async for message in self._messages(pubsub):
                        if message["type"] == "message":
                            self._on_message(message["channel"].decode(), message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)

    async def _messages(self, pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
        """Everything that the server sends, also replies to pings. Raises TimeoutError once those stay out."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            message = await pubsub.get_message(timeout=self._silent_s / 2)
            if message is not None:
                last = loop.time()
                yield message
            elif loop.time() - last >= self._silent_s:
                raise TimeoutError(f"Redis has sent nothing for {self._silent_s:g} s")
            else:
                await pubsub.ping()

    def _on_message(self, channel: str, data: bytes) -> None:
        name, _, outcome = data.partition(b" ")
        job_id = name.decode()
        completion = None if channel == self._progress else self._completions.get(job_id)
        if completion is not None:
            if channel == self._reply_channel:
                completion.outcome = outcome
            completion.set()
        if channel != self._reply_channel:
            for event in self._followers.get(job_id, ()):
                event.set()
