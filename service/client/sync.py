"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx
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


class Client:
    """Talks to one server; may be shared by threads.

    Errors of the service are raised as the exceptions of `service.errors`, whose four families say what can be done:
    `RequestError`, `VideoError`, `TemporaryError`, `ServiceError`. A server that cannot be reached raises
    `httpx.TransportError`. Both after `retry` was used up, where trying again can help.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retry: Retry | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout_s`: seconds of silence after which a connection is given up, and the request repeated."""
        self._http = httpx.Client(**connection(base_url, api_key, timeout_s), transport=transport)
        # httpx asks none where it is given a transport.
        proxy = proxy_of(base_url) if transport is None else None
        self._flow = RequestFlow(retry or Retry(), proxy=proxy)
        self._batches = BatchFlow(self._flow)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def classify(
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
        """Upload a video and return its answer.

        Args:
            video: a path, the bytes, a binary stream, or a `VideoUrl`. A stream that cannot be rewound is sent once.
            progress: called with the bytes sent, and with the clips scored where the answer takes long.
            idempotency_key: of a request that an earlier process may have sent already; a new one by default.
            wait_s: seconds to wait for a job that outlasts the server's own patience. Then it is deleted.
            on_window: called with the index and the result of each window, with `windows="all"` as soon as it is
                scored. The request then lasts as long as its job, whatever `wait_s` says.
            resumable: send the video in pieces: after a cut the rest is sent, not all again. It has to be a path, bytes
                or a stream that can be rewound, and may be larger than the server's limit for one request.
            options: those of `JobRequest`.

        Raises VidtrError, OSError, TimeoutError, httpx.TransportError.
        """
        return self._run(
            self._flow.classify(
                Upload(video), options, idempotency_key, progress, wait_s, on_window, resumable=resumable
            )
        )

    def submit(
        self,
        video: Video,
        *,
        progress: OnProgress = no_progress,
        idempotency_key: str | None = None,
        resumable: bool = False,
        **options: Unpack[Options],
    ) -> JobStatus:
        """Upload a video and return its job, which goes on without this process."""
        return self._run(self._flow.submit(Upload(video), options, idempotency_key, progress, resumable=resumable))

    def job(self, job_id: str) -> JobStatus:
        """How a job stands. Raises UnknownJob, ResultExpired or JobDeleted."""
        return self._run(self._flow.job(job_id))

    def jobs(self, *, page_size: int = 100) -> Iterator[JobSummary]:
        """The caller's jobs, newest first, fetched page by page."""
        cursor = None
        while True:
            page = self._run(self._flow.page(cursor, page_size))
            yield from page.jobs
            cursor = page.next_cursor
            if cursor is None:
                return

    def wait(self, job_id: str, *, progress: OnProgress = no_progress, timeout_s: float = 600.0) -> JobResult:
        """Wait until a job has ended; return its result or raise its error. TimeoutError leaves the job alone."""
        return self._run(self._flow.wait(job_id, progress, timeout_s))

    def cancel(self, job_id: str) -> None:
        """Drop a job, and erase what is kept of it. Repeating it is harmless."""
        self._run(self._flow.cancel(job_id))

    def export(
        self, job_id: str, form: ExportFormat = "json", *, of: Exported = "events", name: str | None = None
    ) -> str:
        """The answer to a job that has succeeded, as the text of a file that other programs open.

        Args:
            job_id: of a job that was accepted.
            form: the format; `GET /v1/jobs/{id}/result` in the HTTP API says what each holds.
            of: whether a format with one list holds the events or the shots.
            name: how the file calls the video; the job's id by default.

        Raises UnknownJob, ResultExpired, JobDeleted, ResultNotReady, NothingToExport, or the error of a failed job.
        """
        return self._run(self._flow.export(job_id, form, of, name))

    def events(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[JobEvent]:
        """Each state of a job, from its first or after `last_event_id`, as it comes; a lost connection is taken up."""
        reader = JobEventReader(job_id, last_event_id, self._flow.retry)
        while not reader.ended:
            try:
                with self._http.stream("GET", reader.path, headers=reader.headers()) as response:
                    if not is_event_stream(response):
                        reader.opened(self._reply(response))
                        continue
                    for sent in EventSource(response).iter_sse():
                        yield reader.event(sent)
                reader.broke_off()
            except httpx.TransportError as error:
                time.sleep(reader.pause_s(with_proxy(error, self._flow.proxy)))
            except VidtrError as error:
                time.sleep(reader.pause_s(error))

    def create_batch(
        self,
        manifest: Manifest,
        *,
        idempotency_key: str | None = None,
        destination: str | None = None,
        batch_webhook: str | None = None,
        **options: Unpack[Options],
    ) -> BatchStatus:
        """Send a manifest of videos by URL and return its batch, which goes on without this process.

        Args:
            manifest: a path (`.csv` is CSV, all else JSONL), JSONL as bytes, or lines: each a `VideoUrl`, or a mapping
                with `source`, `id` and `options`.
            idempotency_key: of a request that an earlier process may have sent already; a new one by default.
            destination: URL of an object in a bucket of the server's operator, which gets the results as JSONL.
            batch_webhook: URL that gets a message when the batch has ended.
            options: those of `JobRequest`, for each line that has none of its own.

        Raises InvalidManifest, whose `lines` say what is wrong; TooManyBatches, OSError, httpx.TransportError.
        """
        return self._run(self._batches.create(manifest, options, idempotency_key, destination, batch_webhook))

    def batch(self, batch_id: str) -> BatchStatus:
        """How a batch stands. Raises UnknownBatch."""
        return self._run(self._batches.status(batch_id))

    def batches(self, *, page_size: int = 100) -> Iterator[BatchStatus]:
        """The caller's batches, newest first, fetched page by page."""
        cursor = None
        while True:
            page = self._run(self._batches.page(cursor, page_size))
            yield from page.batches
            cursor = page.next_cursor
            if cursor is None:
                return

    def batch_results(
        self, batch_id: str, *, after: int = 0, wait: bool = True, page_size: int = 100
    ) -> Iterator[BatchResult]:
        """What the lines of a batch came to, as they end, until all have; fetched page by page.

        Args:
            batch_id: of a batch that was accepted.
            after: `seq` of the last result that is known already.
            wait: False for those that there are, without waiting for others.
            page_size: results that are fetched at a time, up to 100.
        """
        while True:
            page = self._run(self._batches.results(batch_id, after, page_size, wait=wait))
            yield from page.results
            if not page.more:
                return
            after = page.results[-1].seq

    def cancel_batch(self, batch_id: str) -> BatchStatus:
        """Cancel what has not ended of a batch; what has keeps its results. Repeating it is harmless."""
        return self._run(self._batches.cancel(batch_id))

    def models(self) -> list[ModelInfo]:
        """The model versions that can be asked now."""
        return self._run(self._flow.models()).models

    def _run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    def _do(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Compute):
            return step.run()
        content = None if step.upload is None else step.upload.chunks(step.report)
        with self._http.stream(
            step.method, step.path, params=step.params, headers=step.all_headers(), content=content
        ) as response:
            if step.events is not None and is_event_stream(response):
                return self._last_of(step.events, response)
            return self._reply(response)

    @staticmethod
    def _last_of(events: ClassifyEvents, response: httpx.Response) -> Reply:
        for sent in EventSource(response).iter_sse():
            if (reply := events.take(sent)) is not None:
                return reply
        raise events.broke_off()

    def _reply(self, response: httpx.Response) -> Reply:
        return Reply(response.status_code, response.headers, response.read(), self._flow.proxy)
