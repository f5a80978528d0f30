"""Waking those who wait for a job or follow it.

One pub/sub connection per process, and a poll beside it because pub/sub may lose messages.
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
# A connection that a network has silently dropped looks like one on which nothing is said: then it is asked.
SILENT_S = 10.0


class Ending(asyncio.Event):
    """Set when a job has ended. News may get lost."""

    outcome: bytes | None = None
    """encoded, where it came along"""


class ResultBus:
    """Wakes the waiters of this process when their job has news.

    Attributes:
        home: what a job is to be accepted with so that its outcome comes along with the news of its end.
    """

    def __init__(
        self, redis: Redis, keys: RedisKeys, store: JobStore, poll_s: float = POLL_S, silent_s: float = SILENT_S
    ) -> None:
        """After `silent_s` without a word, not even an answer to a ping, it subscribes again."""
        self._redis = redis
        self._silent_s = silent_s
        self.home = uuid4().hex
        self._answers = keys.answers(self.home)
        self._finished = keys.finished
        self._progress = keys.progress
        self._store = store
        self._poll_s = poll_s
        self._ends: WeakValueDictionary[str, Ending] = WeakValueDictionary()
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._let_go_at = math.inf
        self._naps: set[asyncio.Timeout] = set()
        self._looks: dict[tuple[str, bool], asyncio.Future[Outcome | None]] = {}

    async def start(self) -> None:
        """Subscribe. Call once."""
        self._listener = asyncio.create_task(self._listen(), name="result-bus")

    async def close(self) -> None:
        """Stop listening; waiters go on by polling."""
        while self._listener is not None and not self._listener.done():
            # Again and again: in Python 3.11 a cancellation that meets the end of a Redis command is lost with it.
            self._listener.cancel()
            await asyncio.wait({self._listener}, timeout=RECONNECT_S)

    def end_of(self, job_id: str) -> Ending:
        """The job's end, told as long as somebody holds it."""
        ending = self._ends.get(job_id)
        if ending is None:
            ending = self._ends[job_id] = Ending()
        return ending

    def let_go(self, after_s: float) -> None:
        """End every wait, of now and later, once `after_s` has passed. May be called in a handler of signals."""
        self._let_go_at = min(self._let_go_at, time.monotonic() + after_s)
        for nap in self._naps:
            if not nap.expired() and (nap.when() or 0.0) > self._let_go_at:
                nap.reschedule(self._let_go_at)

    async def wait(self, job_id: str, timeout_s: float, unended: Ending | None = None) -> Outcome | None:
        """The job's outcome, or None when there is none after `timeout_s`, or none that can be read.

        `unended` is the end of a job that had not ended when it was asked for, which saves the first look, and the last
        one where the outcome comes along.
        """
        loop = asyncio.get_running_loop()
        end, look = loop.time() + timeout_s, unended is None
        ended = unended or self.end_of(job_id)
        while True:
            if unended is not None and unended.outcome is not None:
                return Outcome.decode(unended.outcome)
            outcome, told = None, ended.is_set()
            if look or told:
                # An accepted job goes on while Redis restarts, and so does the wait for it.
                with contextlib.suppress(QueueUnavailable):
                    outcome = await self._look(job_id, told)
            left, look = min(end, self._let_go_at) - loop.time(), True
            if outcome is not None or left <= 0:
                return outcome
            # Where it has ended and yet has no outcome Redis is away, and asking at once would be no use.
            await self._nap(min(self._poll_s, left), asyncio.Event() if told else ended)

    async def _look(self, job_id: str, told: bool) -> Outcome | None:
        """The outcome as Redis has it, asked once for all who ask now. Those who know of the end ask after it."""
        look = self._looks.get((job_id, told))
        if look is None:
            look = self._looks[job_id, told] = asyncio.ensure_future(self._store.outcome(job_id))
            look.add_done_callback(lambda done: self._looked(job_id, told, done))
        return await asyncio.shield(look)

    def _looked(self, job_id: str, told: bool, look: asyncio.Future[Outcome | None]) -> None:
        del self._looks[job_id, told]
        if not look.cancelled():
            # Taken note of, where all who asked have left.
            look.exception()

    async def _nap(self, seconds: float, waker: asyncio.Event) -> None:
        # A scope that ends nothing but this: a cancellation might be lost with the end of a Redis command.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as nap:
                self._naps.add(nap)
                try:
                    await waker.wait()
                finally:
                    self._naps.discard(nap)

    @contextlib.contextmanager
    def following(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever clips of the job were scored or the job has ended. News may get lost."""
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
                    await pubsub.subscribe(self._answers, self._finished, self._progress)
                    async for message in self._said(pubsub):
                        if message["type"] == "message":
                            self._heard(message["channel"].decode(), message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)

    async def _said(self, pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
        """What the server says, answers to pings included. Raises TimeoutError once it does not even answer those."""
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            message = await pubsub.get_message(timeout=self._silent_s / 2)
            if message is not None:
                heard = loop.time()
                yield message
            elif loop.time() - heard >= self._silent_s:
                raise TimeoutError(f"Redis has said nothing for {self._silent_s:g} s")
            else:
                await pubsub.ping()

    def _heard(self, channel: str, data: bytes) -> None:
        name, _, outcome = data.partition(b" ")
        job_id = name.decode()
        ending = None if channel == self._progress else self._ends.get(job_id)
        if ending is not None:
            if channel == self._answers:
                ending.outcome = outcome
            ending.set()
        if channel != self._answers:
            for event in self._followers.get(job_id, ()):
                event.set()
