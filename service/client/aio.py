"""The client for programs of many tasks, under asyncio or trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TypeVar, Unpack

import anyio
import httpx
from httpx_sse import EventSource

from service.client.client_errors import Reply
from service.client.job_events import JobEventReader
from service.client.request_flow import OnProgress, Options, RequestFlow, Send, Sleep, Steps, no_progress
from service.client.retries import Retry
from service.client.transport import TIMEOUT_S, connection
from service.client.uploads import Upload, Video
from service.contracts import JobResult, JobStatus, JobSummary
from service.errors import VidtrError
from service.wire import JobEvent, ModelInfo

T = TypeVar("T")

CLEANUP_TIMEOUT_S = 5.0


class AsyncClient:
    """`Client` with awaitable methods: the same arguments, results and errors. A cancelled `classify` leaves no job."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retry: Retry | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**connection(base_url, api_key, timeout_s), transport=transport)
        self._flow = RequestFlow(retry or Retry())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def classify(
        self,
        video: Video,
        *,
        progress: OnProgress = no_progress,
        idempotency_key: str | None = None,
        wait_s: float = 600.0,
        **options: Unpack[Options],
    ) -> JobResult:
        """See `Client.classify`."""
        return await self._run(self._flow.classify(Upload(video), options, idempotency_key, progress, wait_s))

    async def submit(
        self,
        video: Video,
        *,
        progress: OnProgress = no_progress,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> JobStatus:
        """See `Client.submit`."""
        return await self._run(self._flow.submit(Upload(video), options, idempotency_key, progress))

    async def job(self, job_id: str) -> JobStatus:
        """See `Client.job`."""
        return await self._run(self._flow.job(job_id))

    async def jobs(self, *, page_size: int = 100) -> AsyncIterator[JobSummary]:
        """See `Client.jobs`."""
        cursor = None
        while True:
            page = await self._run(self._flow.page(cursor, page_size))
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def wait(self, job_id: str, *, progress: OnProgress = no_progress, timeout_s: float = 600.0) -> JobResult:
        """See `Client.wait`."""
        return await self._run(self._flow.wait(job_id, progress, timeout_s))

    async def cancel(self, job_id: str) -> None:
        """See `Client.cancel`."""
        await self._run(self._flow.cancel(job_id))

    async def events(self, job_id: str, *, last_event_id: str | None = None) -> AsyncIterator[JobEvent]:
        """See `Client.events`."""
        reader = JobEventReader(job_id, last_event_id, self._flow.retry)
        while not reader.ended:
            try:
                async with self._http.stream("GET", reader.path, headers=reader.headers()) as response:
                    if not reader.streams(response.status_code):
                        reader.opened(Reply(response.status_code, response.headers, await response.aread()))
                        continue
                    async for sent in EventSource(response).aiter_sse():
                        yield reader.event(sent)
                reader.broke_off()
            except (httpx.TransportError, VidtrError) as error:
                await anyio.sleep(reader.pause_s(error))

    async def models(self) -> list[ModelInfo]:
        """See `Client.models`."""
        return (await self._run(self._flow.models())).models

    async def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _do(self, step: Send | Sleep) -> Reply | None:
        if isinstance(step, Sleep):
            await anyio.sleep(step.seconds)
            return None
        content = None if step.upload is None else step.upload.async_chunks(step.report)
        with anyio.move_on_after(CLEANUP_TIMEOUT_S, shield=True) if step.shielded else anyio.CancelScope():
            response = await self._http.request(
                step.method, step.path, params=step.params, headers=step.all_headers(), content=content
            )
            return Reply(response.status_code, response.headers, response.content)
        return None
