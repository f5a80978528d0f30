"""The client for programs of many tasks, under asyncio or trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeVar, Unpack

import anyio
import httpx
from anyio import to_thread
from httpx_sse import EventSource

from service.client.batch_flow import BatchFlow, Manifest
from service.client.classify_events import ClassifyEvents, OnWindow
from service.client.client_errors import Reply
from service.client.job_events import JobEventReader, is_event_stream
from service.client.request_flow import Exported, ExportFormat, Options, RequestFlow
from service.client.retries import Retry
from service.client.steps import Compute, OnProgress, Sleep, Step, Steps, no_progress
from service.client.transport import TIMEOUT_S, connection, proxy_of, with_proxy
from service.client.uploads import Upload, Video
from service.contracts import JobResult, JobStatus, JobSummary
from service.errors import VidtrError
from service.wire import BatchResult, BatchStatus, JobEvent, ModelInfo

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
        # httpx asks none where it is given a transport.
        proxy = proxy_of(base_url) if transport is None else None
        self._flow = RequestFlow(retry or Retry(), proxy=proxy)
        self._batches = BatchFlow(self._flow)

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
        on_window: OnWindow | None = None,
        resumable: bool = False,
        **options: Unpack[Options],
    ) -> JobResult:
        """See `Client.classify`."""
        return await self._run(
            self._flow.classify(
                Upload(video), options, idempotency_key, progress, wait_s, on_window, resumable=resumable
            )
        )

    async def submit(
        self,
        video: Video,
        *,
        progress: OnProgress = no_progress,
        idempotency_key: str | None = None,
        resumable: bool = False,
        **options: Unpack[Options],
    ) -> JobStatus:
        """See `Client.submit`."""
        return await self._run(
            self._flow.submit(Upload(video), options, idempotency_key, progress, resumable=resumable)
        )

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

    async def export(
        self, job_id: str, form: ExportFormat = "json", *, of: Exported = "events", name: str | None = None
    ) -> str:
        """See `Client.export`."""
        return await self._run(self._flow.export(job_id, form, of, name))

    async def events(self, job_id: str, *, last_event_id: str | None = None) -> AsyncIterator[JobEvent]:
        """See `Client.events`."""
        reader = JobEventReader(job_id, last_event_id, self._flow.retry)
        while not reader.ended:
            try:
                async with self._http.stream("GET", reader.path, headers=reader.headers()) as response:
                    if not is_event_stream(response):
                        reader.opened(self._reply(response, await response.aread()))
                        continue
                    async for sent in EventSource(response).aiter_sse():
                        yield reader.event(sent)
                reader.broke_off()
            except httpx.TransportError as error:
                await anyio.sleep(reader.pause_s(with_proxy(error, self._flow.proxy)))
            except VidtrError as error:
                await anyio.sleep(reader.pause_s(error))

    async def create_batch(
        self,
        manifest: Manifest,
        *,
        idempotency_key: str | None = None,
        destination: str | None = None,
        batch_webhook: str | None = None,
        **options: Unpack[Options],
    ) -> BatchStatus:
        """See `Client.create_batch`."""
        return await self._run(self._batches.create(manifest, options, idempotency_key, destination, batch_webhook))

    async def batch(self, batch_id: str) -> BatchStatus:
        """See `Client.batch`."""
        return await self._run(self._batches.status(batch_id))

    async def batches(self, *, page_size: int = 100) -> AsyncIterator[BatchStatus]:
        """See `Client.batches`."""
        cursor = None
        while True:
            page = await self._run(self._batches.page(cursor, page_size))
            for batch in page.batches:
                yield batch
            cursor = page.next_cursor
            if cursor is None:
                return

    async def batch_results(
        self, batch_id: str, *, after: int = 0, wait: bool = True, page_size: int = 100
    ) -> AsyncIterator[BatchResult]:
        """See `Client.batch_results`."""
        while True:
            page = await self._run(self._batches.results(batch_id, after, page_size, wait=wait))
            for result in page.results:
                yield result
            if not page.more:
                return
            after = page.results[-1].seq

    async def cancel_batch(self, batch_id: str) -> BatchStatus:
        """See `Client.cancel_batch`."""
        return await self._run(self._batches.cancel(batch_id))

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

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            await anyio.sleep(step.seconds)
            return None
        if isinstance(step, Compute):
            return await to_thread.run_sync(step.run)
        content = None if step.upload is None else step.upload.async_chunks(step.report)
        with anyio.move_on_after(CLEANUP_TIMEOUT_S, shield=True) if step.shielded else anyio.CancelScope():
            async with self._http.stream(
                step.method, step.path, params=step.params, headers=step.all_headers(), content=content
            ) as response:
                if step.events is not None and is_event_stream(response):
                    return await self._last_of(step.events, response)
                return self._reply(response, await response.aread())
        return None

    @staticmethod
    async def _last_of(events: ClassifyEvents, response: httpx.Response) -> Reply:
        async for sent in EventSource(response).aiter_sse():
            if (reply := events.take(sent)) is not None:
                return reply
        raise events.broke_off()

    def _reply(self, response: httpx.Response, content: bytes) -> Reply:
        return Reply(response.status_code, response.headers, content, self._flow.proxy)
