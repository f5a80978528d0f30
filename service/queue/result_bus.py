"""Wakes the waiters and followers of jobs.

A process hears of the jobs that it accepted, and of those that it waits for or follows: what it costs to tell of a job
does not depend on the number of processes. A poll stands beside the messages because they may get lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from uuid import uuid4
from weakref import WeakValueDictionary

from redis.asyncio import Redis

from service.errors import QueueUnavailable
from service.queue.codec import Outcome
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from service.queue.subscription import Subscription

ENDED = b"ended"
# What a process knows when it looks for an outcome: nothing; that it will hear of the end; that the job has ended.
UNHEARD, HEARD, TOLD = range(3)
POLL_S = 1.0
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
        """It subscribes again after `silent_s` without a message, not even one of its role."""
        self.reply_to = uuid4().hex
        self._keys = keys
        self._reply_channel = keys.reply_channel(self.reply_to)
        self._ended_channel = keys.ended_channel(self.reply_to)
        self._news_prefix = keys.news("")
        own = (self._reply_channel, self._ended_channel)
        self._subscription = Subscription(redis, own, self._on_message, silent_s)
        self._store = store
        self._poll_s = poll_s
        self._completions: WeakValueDictionary[str, JobCompletion] = WeakValueDictionary()
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._release_at = math.inf
        self._wait_slices: set[asyncio.Timeout] = set()
        self._looks: dict[tuple[str, int], asyncio.Future[Outcome | None]] = {}

    async def start(self) -> None:
        """Subscribe. Call once."""
        self._subscription.start()

    async def close(self) -> None:
        """Stop listening; waiters continue by polling."""
        await self._subscription.close()

    def completion(self, job_id: str) -> JobCompletion:
        """The completion of a job that is accepted with `reply_to`; set by messages as long as the caller holds it."""
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

        `unended` is the completion of a job, taken before the job was accepted with `reply_to`. It saves the first read
        of Redis, and the last one too where the outcome comes over the reply channel.
        """
        end = asyncio.get_running_loop().time() + timeout_s
        if unended is not None:
            return await self._wait(job_id, end, unended, unended)
        with contextlib.suppress(QueueUnavailable):
            if (outcome := await self._look(job_id, UNHEARD)) is not None:
                return outcome
        with self._subscription.listening(self._keys.news(job_id)) as confirmed:
            if (left := self._left(end)) > 0:
                # It may have ended since the look and before this process heard of the job.
                await self._wait_slice(min(self._poll_s, left), confirmed)
            return await self._wait(job_id, end, self.completion(job_id), None)

    def _left(self, end: float) -> float:
        return min(end, self._release_at) - asyncio.get_running_loop().time()

    async def _wait(
        self, job_id: str, end: float, ended: JobCompletion, unended: JobCompletion | None
    ) -> Outcome | None:
        look = unended is None
        while True:
            if unended is not None and unended.outcome is not None:
                return Outcome.decode(unended.outcome)
            outcome, notified = None, ended.is_set()
            if look or notified:
                # An accepted job survives a restart of Redis, and so does the wait for it.
                with contextlib.suppress(QueueUnavailable):
                    outcome = await self._look(job_id, TOLD if notified else HEARD)
            left, look = self._left(end), True
            if outcome is not None or left <= 0:
                return outcome
            # A completed job without an outcome means that Redis is unreachable: reading again at once would fail too.
            await self._wait_slice(min(self._poll_s, left), asyncio.Event() if notified else ended)

    async def _look(self, job_id: str, known: int) -> Outcome | None:
        """The outcome in Redis. Concurrent callers share one read, unless it began when less was `known`."""
        look = self._looks.get((job_id, known))
        if look is None:
            look = self._looks[job_id, known] = asyncio.ensure_future(self._store.outcome(job_id))
            look.add_done_callback(lambda done: self._looked(job_id, known, done))
        return await asyncio.shield(look)

    def _looked(self, job_id: str, known: int, look: asyncio.Future[Outcome | None]) -> None:
        del self._looks[job_id, known]
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
            with self._subscription.listening(self._keys.news(job_id)):
                yield event
        finally:
            self._followers[job_id].discard(event)
            if not self._followers[job_id]:
                del self._followers[job_id]

    def _on_message(self, channel: str, data: bytes) -> None:
        if channel == self._reply_channel:
            name, _, outcome = data.partition(b" ")
            self._ended(name.decode(), outcome)
        elif channel == self._ended_channel:
            self._ended(data.decode(), None)
        else:
            job_id = channel.removeprefix(self._news_prefix)
            if data == ENDED:
                self._ended(job_id, None)
            for event in self._followers.get(job_id, ()):
                event.set()

    def _ended(self, job_id: str, outcome: bytes | None) -> None:
        completion = self._completions.get(job_id)
        if completion is not None:
            if outcome is not None:
                completion.outcome = outcome
            completion.set()
