"""A job's events as a stream of server-sent events that a client can take up again where it broke off."""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Callable

from fastapi.sse import format_sse_event

from service.api.feeds import POLL_S, Feeds
from service.api.shares import Shared
from service.contracts import JobSummary
from service.errors import QueueFull
from service.periodic import wait_or_timeout
from service.queue.clock import Clock
from service.queue.events import JobEvent, JobEvents, place
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus

# Proxies cut connections that say nothing for a minute.
KEEPALIVE_POLLS = 15
# Caches must not store the stream, and proxies must not buffer it.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Overdue jobs are ended by a sweep that needs a moment, and a Redis that answers.
PATIENCE_S = 120.0
FOLLOWERS_RETRY_AFTER_S = 5.0


class JobEventStream:
    """Follows jobs for the clients of one process."""

    def __init__(
        self,
        events: PerPartition[JobEvents],
        buses: PerPartition[ResultBus],
        draining: Callable[[], bool],
        clocks: PerPartition[Clock],
        places: Shared | None = None,
    ) -> None:
        """`places` are those for streams that `follow` gives; without them there is no limit."""
        self._events = events
        self._feeds = Feeds(events, buses)
        self._draining = draining
        self._places = places
        self._clocks = clocks

    async def resumed_after(self, job_id: str, last_id: str) -> str | None:
        """The event after which a follower goes on who has those up to `last_id`; None where nothing is left.

        An id beyond the newest event, of a history that a failover has cut off, stands for that one.
        """
        events = await self._events.of(job_id).since(job_id, None)
        if not events or place(last_id) < place(events[-1].id):
            return last_id
        return None if events[-1].final else events[-1].id

    def follow(self, job: JobSummary, last_id: str | None, caller: str) -> AsyncIterator[bytes]:
        """`stream` for a caller who takes a place for as long as it is read. Raises QueueFull."""
        if self._places is None:
            return self.stream(job, last_id)
        take_place(self._places, caller)
        return Placed(self.stream(job, last_id), self._places, caller)

    async def stream(self, job: JobSummary, last_id: str | None, *, ending: bool = True) -> AsyncIterator[bytes]:
        """Every event after `last_id`, as they happen; ends with the job, or when this process shuts down.

        The event that ends the job is left out where `ending` is False.
        It ends some time after the job's deadline in any case: a client that follows a replayed job reconnects.
        """
        quiet, clock = 0, self._clocks.of(job.id)
        await clock.time()
        with self._feeds.of(job.id) as feed:
            while not self._draining() and clock.now() < job.deadline_at + PATIENCE_S:
                news = feed.news
                for event in feed.since(last_id):
                    last_id, quiet = event.id, 0
                    if ending or not event.final:
                        yield _line(job, event)
                    if event.final:
                        return
                if await wait_or_timeout(news, POLL_S):
                    continue
                quiet += 1
                if quiet % KEEPALIVE_POLLS == 0:
                    yield format_sse_event(comment="")


def take_place(places: Shared, caller: str) -> None:
    """Take the place of one more event stream. Raises QueueFull."""
    refused = places.take(caller)
    if refused is not None:
        whose = " of this caller" if refused.own else ""
        detail = (
            f"This process already serves {refused.actual} event streams{whose}; its limit is {refused.limit}."
            " Try again later, or poll."
        )
        raise QueueFull(detail, limit=refused.limit, actual=refused.actual, retry_after_s=FOLLOWERS_RETRY_AFTER_S)


class Placed:
    """A stream that gives its place back when it is garbage-collected, even if it was never read."""

    def __init__(self, stream: AsyncIterator[bytes], places: Shared, caller: str) -> None:
        self._stream = stream
        self._leave = weakref.finalize(self, places.give_back, caller)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._stream)
        except BaseException:
            self._leave()
            raise


def _line(job: JobSummary, event: JobEvent) -> bytes:
    data = {
        "id": job.id,
        "status": event.state,
        "clips_done": event.clips_done,
        "clips_total": job.clips_total,
    }
    return format_sse_event(id=event.id, event=event.state, data_str=json.dumps(data))
