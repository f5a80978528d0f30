"""Waking those who wait for a job: one pub/sub connection per process, and a poll because pub/sub may lose messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import QueueUnavailable
from service.queue.codec import Outcome
from service.queue.jobs import JobStore
from service.queue.keys import Keys

POLL_S = 1.0
RECONNECT_S = 0.5


class ResultBus:
    """Hands each finished job to the waiters of this process. `redis` must have no socket timeout."""

    def __init__(self, redis: Redis, keys: Keys, store: JobStore, poll_s: float = POLL_S) -> None:
        self._redis = redis
        self._channel = keys.finished
        self._store = store
        self._poll_s = poll_s
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe. Call once."""
        self._listener = asyncio.create_task(self._listen(), name="result-bus")

    async def close(self) -> None:
        """Stop listening; waiters go on by polling."""
        while self._listener is not None and not self._listener.done():
            # Again and again: in Python 3.11 a cancellation that meets the end of a Redis command is lost with it.
            self._listener.cancel()
            await asyncio.wait({self._listener}, timeout=RECONNECT_S)

    async def wait(self, job_id: str, timeout_s: float) -> Outcome | None:
        """The job's outcome, or None when there is none after `timeout_s`, or none that can be read."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        finished = asyncio.Event()
        self._waiters[job_id].add(finished)
        try:
            while True:
                outcome = None
                # An accepted job goes on while Redis restarts, and so does the wait for it.
                with contextlib.suppress(QueueUnavailable):
                    outcome = await self._store.outcome(job_id)
                left = end - loop.time()
                if outcome is not None or left <= 0:
                    return outcome
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(self._poll_s, left)):
                        await finished.wait()
        finally:
            self._waiters[job_id].discard(finished)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._channel)
                    async for message in pubsub.listen():
                        for event in self._waiters.get(message["data"].decode(), ()):
                            event.set()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)
