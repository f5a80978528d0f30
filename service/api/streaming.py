"""One classification as server-sent events, from the end of its upload to the answer or the problem."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import structlog
from fastapi.sse import format_sse_event

from service.api.classification import Classifier
from service.api.header_lists import elements
from service.api.job_event_stream import JobEventStream
from service.api.job_waiter import JobWaiter
from service.api.partial_answers import PartialAnswer
from service.api.problems import problem_body, retry_after
from service.api.submission import Submission
from service.contracts import JobRecord, JobStatus, WindowResult
from service.errors import InternalError, QueueUnavailable, VidtrError
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.partitions import PerPartition

log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"
JSON_RANGES = ("application/json", "application/*", "*/*")

# Proxies cut connections that say nothing for a minute, and a decode may be quiet for longer.
KEEPALIVE_S = 15.0
# Events that a caller has not read; a window more would fill memory for somebody who does not look.
UNREAD = 1000
# The last event of a job is committed with its outcome; news of it may come a moment later.
LAST_EVENT_S = 1.0


def asked_for(accept: str | None) -> bool:
    """Whether an `Accept` header names server-sent events, and no JSON that it would rather have."""
    qualities = {kind.name: kind.quality for kind in elements(accept)}
    events = qualities.get(MEDIA_TYPE, 0.0)
    # The most specific range decides, whatever the order.
    document = next((qualities[kind] for kind in JSON_RANGES if kind in qualities), 0.0)
    return events > 0 and events >= document


class Streaming:
    """Runs classifications beside their event streams. Owned by the app, one per process."""

    def __init__(
        self,
        classifier: Classifier,
        waiter: JobWaiter,
        event_stream: JobEventStream,
        stores: PerPartition[JobStore],
        models: LiveModels,
    ) -> None:
        self._classifier = classifier
        self._waiter = waiter
        self._event_stream = event_stream
        self._stores = stores
        self._models = models
        # The event loop itself holds tasks only weakly.
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, submission: Submission) -> AsyncIterator[bytes]:
        """Take the upload in, and return the events that follow it; the last is a `result` or a `problem`.

        While the process shuts down the stream may end without either: the job goes on. Raises what
        `Classifier.submit` raises before the upload is complete.
        """
        told: asyncio.Queue[bytes | None] = asyncio.Queue()
        running = asyncio.create_task(self._run(submission, told))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        first = await told.get()
        if first is None:
            await running
        return self._events(first, told)

    @staticmethod
    async def _events(line: bytes | None, told: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while line is not None:
            yield line
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    line = await told.get()
            except TimeoutError:
                line = format_sse_event(comment="")

    async def _run(self, submission: Submission, told: asyncio.Queue[bytes | None]) -> None:
        """Classify. A client that goes away is noticed here, as it is without a stream."""
        started = False
        partial = submission.options.windows == "all"
        following: list[asyncio.Task[None]] = []

        def report(stage: str, known: dict[str, Any]) -> None:
            nonlocal started
            started = True
            told.put_nowait(_event(stage, known))

        def follow(job: JobStatus, latest: Callable[[], JobRecord | None] = lambda: None) -> None:
            following.append(asyncio.create_task(self._follow(job, told, latest, partial=partial)))

        try:
            job = await self._classifier.submit(replace(submission, report=report, follow=follow if partial else None))
            if not following:
                follow(job.status)
            outcome = await self._waiter.wait(submission.request, job, submission.wait_policy)
            await asyncio.wait(following, timeout=LAST_EVENT_S)
            if outcome is not None and outcome.result is not None:
                told.put_nowait(_event("result", outcome.result.document))
            elif outcome is not None:
                raise outcome.error or InternalError(f"Job {job.status.id} ended as {outcome.state} without a cause.")
        except Exception as error:
            if not started:
                raise
            told.put_nowait(_problem(error, submission.request.state.request_id))
        finally:
            for task in following:
                task.cancel()
            if following:
                await asyncio.wait(following)
            told.put_nowait(None)

    async def _follow(
        self,
        job: JobStatus,
        told: asyncio.Queue[bytes | None],
        latest: Callable[[], JobRecord | None],
        *,
        partial: bool,
    ) -> None:
        answer = PartialAnswer(job.id, self._stores.of(job.id), self._models.list, latest)
        async for line in self._event_stream.stream(job, None, ending=False):
            told.put_nowait(line)
            # A caller who reads slowly gets the rest with the answer.
            if partial and told.qsize() < UNREAD:
                with contextlib.suppress(QueueUnavailable):
                    for number, window in await answer.news():
                        told.put_nowait(_event("window", _window(number, window)))


def _window(number: int, window: WindowResult) -> dict[str, Any]:
    return {"index": number, **window.model_dump(mode="json", exclude_none=True)}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data))


def _problem(error: Exception, request_id: str) -> bytes:
    if not isinstance(error, VidtrError):
        log.error("unhandled_error", exc_info=error)
        error = InternalError("The service failed. Its log has the cause under this request id.")
    body = problem_body(error, request_id)
    if error.retry_after_s is not None:
        # The headers were sent long before.
        body["retry_after_s"] = retry_after(error.retry_after_s)
    return _event("problem", body)
