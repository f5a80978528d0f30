"""A job's events as a stream of server-sent events that a client can take up again where it broke off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable

from fastapi.sse import format_sse_event

from service.contracts import JobSummary
from service.errors import QueueUnavailable
from service.queue.bus import ResultBus
from service.queue.events import JobEvent, JobEvents

POLL_S = 1.0
# Proxies cut connections that say nothing for a minute.
KEEPALIVE_POLLS = 15
# For caches and for proxies that would hold events back until there are many.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Overdue jobs are ended by a sweep that needs a moment, and a Redis that answers.
PATIENCE_S = 120.0


class Following:
    """Follows jobs for the clients of one process."""

    def __init__(self, events: JobEvents, bus: ResultBus, draining: Callable[[], bool]) -> None:
        self._events = events
        self._bus = bus
        self._draining = draining

    async def ended(self, job_id: str, last_id: str) -> bool:
        """Whether `last_id` is the job's last event, so that there is nothing left to follow."""
        events = await self._events.since(job_id, None)
        return bool(events) and events[-1].final and events[-1].id == last_id

    async def stream(self, job: JobSummary, last_id: str | None, *, ending: bool = True) -> AsyncIterator[bytes]:
        """Every event after `last_id`, as they happen; ends with the job, or when this process shuts down.

        The event that ends the job is left out where `ending` is False.
        A while after the job's deadline it ends in any case: whoever follows a job that was replayed comes again.
        """
        quiet = 0
        with self._bus.following(job.id) as news:
            while not self._draining() and time.time() < job.deadline_at + PATIENCE_S:
                news.clear()
                events: list[JobEvent] = []
                # An accepted job goes on while Redis restarts, and so does whoever follows it.
                with contextlib.suppress(QueueUnavailable):
                    events = await self._events.since(job.id, last_id)
                for event in events:
                    last_id, quiet = event.id, 0
                    if ending or not event.final:
                        yield _line(job, event)
                    if event.final:
                        return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await news.wait()
                    continue
                quiet += 1
                if quiet % KEEPALIVE_POLLS == 0:
                    yield format_sse_event(comment="")


def _line(job: JobSummary, event: JobEvent) -> bytes:
    data = {
        "id": job.id,
        "status": event.state,
        "clips_done": event.clips_done,
        "clips_total": job.clips_total,
    }
    return format_sse_event(id=event.id, event=event.state, data_str=json.dumps(data))
