"""Events of followed jobs, read once per job for all followers in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import takewhile

from service.errors import QueueUnavailable
from service.periodic import wait_or_timeout
from service.queue.events import JobEvent, JobEvents, place
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus

POLL_S = 1.0


class Feed:
    """What has happened to one job, as far as it is known here.

    Attributes:
        news: set when events were added; it is then replaced by a new one.
    """

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self._events: list[JobEvent] = []
        self._readers = 0

    def since(self, last_id: str | None) -> list[JobEvent]:
        """The events after the one with `last_id`; all of them where it is None."""
        if last_id is None:
            return list(self._events)
        # From the end: most followers lack the last one only.
        after = place(last_id)
        lacking = list(takewhile(lambda event: place(event.id) > after, reversed(self._events)))
        return lacking[::-1]


class Feeds:
    """The feeds of one process: each is read from Redis while somebody follows its job."""

    def __init__(self, events: PerPartition[JobEvents], buses: PerPartition[ResultBus]) -> None:
        self._events = events
        self._buses = buses
        self._feeds: dict[str, Feed] = {}
        # The event loop itself holds tasks only weakly.
        self._reading: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def of(self, job_id: str) -> Iterator[Feed]:
        """The feed of a job, which others may read too."""
        feed = self._feeds.get(job_id)
        if feed is None:
            feed = self._feeds[job_id] = Feed()
            reading = asyncio.create_task(self._read(job_id, feed), name=f"feed-{job_id}")
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
        feed._readers += 1
        try:
            yield feed
        finally:
            feed._readers -= 1
            if not feed._readers:
                del self._feeds[job_id]

    async def _read(self, job_id: str, feed: Feed) -> None:
        # Not cancelled when the last reader goes: in Python 3.11 a cancellation that meets the end of a Redis command
        # is lost with it.
        last_id: str | None = None
        of_job = self._events.of(job_id)
        with self._buses.of(job_id).following(job_id) as news:
            while self._feeds.get(job_id) is feed:
                news.clear()
                events: list[JobEvent] = []
                # An accepted job goes on while Redis restarts, and so do those who follow it.
                with contextlib.suppress(QueueUnavailable):
                    events = await of_job.since(job_id, last_id)
                if events:
                    last_id = events[-1].id
                    feed._events += events
                    told, feed.news = feed.news, asyncio.Event()
                    told.set()
                await wait_or_timeout(news, POLL_S)
