"""Waking those who wait for a job or follow it.

One pub/sub connection per process, and a poll beside it because pub/sub may lose messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import QueueUnavailable
from service.queue.codec import Outcome
from service.queue.jobs import JobStore
from service.queue.keys import Keys

POLL_S = 1.0
RECONNECT_S = 0.5


class ResultBus:
    """Wakes the waiters of this process when their job has news. `redis` must have no socket timeout."""

    def __init__(self, redis: Redis, keys: Keys, store: JobStore, poll_s: float = POLL_S) -> None:
        self._redis = redis
        self._finished = keys.finished
        self._progress = keys.progress
        self._store = store
        self._poll_s = poll_s
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
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
        with _listed(self._waiters, job_id) as finished:
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

    def following(self, job_id: str) -> contextlib.AbstractContextManager[asyncio.Event]:
        """An event that is set whenever clips of the job were scored or the job has ended. News may get lost."""
        return _listed(self._followers, job_id)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._finished, self._progress)
                    async for message in pubsub.listen():
                        job_id = message["data"].decode()
                        ended = message["channel"].decode() == self._finished
                        for event in (
                            *self._followers.get(job_id, ()),
                            *(self._waiters.get(job_id, ()) if ended else ()),
                        ):
                            event.set()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)


@contextlib.contextmanager
def _listed(by_job: defaultdict[str, set[asyncio.Event]], job_id: str) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    by_job[job_id].add(event)
    try:
        yield event
    finally:
        by_job[job_id].discard(event)
        if not by_job[job_id]:
            del by_job[job_id]
