"""One classification as server-sent events, from the end of its upload to the answer or the problem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import structlog
from fastapi.sse import format_sse_event

from service.api.classification import Classifier
from service.api.job_event_stream import JobEventStream
from service.api.job_waiter import JobWaiter
from service.api.problems import problem_body, retry_after
from service.api.submission import Submission, Submitted
from service.errors import InternalError, VidtrError
from service.queue.codec import Outcome

log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"

# Proxies cut connections that say nothing for a minute, and a decode may be quiet for longer.
KEEPALIVE_S = 15.0
# The last event of a job is committed with its outcome; news of it may come a moment later.
LAST_EVENT_S = 1.0


def asked_for(accept: str | None) -> bool:
    """Whether an `Accept` header names server-sent events."""
    return any(kind.split(";")[0].strip().lower() == MEDIA_TYPE for kind in (accept or "").split(","))


class Streaming:
    """Runs classifications beside their event streams. Owned by the app, one per process."""

    def __init__(self, classifier: Classifier, waiter: JobWaiter, event_stream: JobEventStream) -> None:
        self._classifier = classifier
        self._waiter = waiter
        self._event_stream = event_stream
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

        def report(stage: str, known: dict[str, Any]) -> None:
            nonlocal started
            started = True
            told.put_nowait(_event(stage, known))

        try:
            job = await self._classifier.submit(replace(submission, report=report))
            outcome = await self._outcome(submission, job, told)
            if outcome is not None and outcome.result is not None:
                told.put_nowait(_event("result", outcome.result.model_dump(mode="json", exclude_none=True)))
            elif outcome is not None:
                raise outcome.error or InternalError(f"Job {job.status.id} ended as {outcome.state} without a cause.")
        except Exception as error:
            if not started:
                raise
            told.put_nowait(_problem(error, submission.request.state.request_id))
        finally:
            told.put_nowait(None)

    async def _outcome(
        self, submission: Submission, job: Submitted, told: asyncio.Queue[bytes | None]
    ) -> Outcome | None:
        following = asyncio.create_task(self._follow(job, told))
        try:
            outcome = await self._waiter.wait(submission.request, job, submission.wait_policy)
            await asyncio.wait({following}, timeout=LAST_EVENT_S)
            return outcome
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def _follow(self, job: Submitted, told: asyncio.Queue[bytes | None]) -> None:
        async for line in self._event_stream.stream(job.status, None, ending=False):
            told.put_nowait(line)


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
