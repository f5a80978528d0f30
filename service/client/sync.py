"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar, Unpack

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
        self._flow = RequestFlow(retry or Retry())

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
        **options: Unpack[Options],
    ) -> JobResult:
        """Upload a video and return its answer.

        Args:
            video: a path, the bytes, or a binary stream. A stream that cannot be rewound is sent once and never again.
            progress: called with the bytes sent, and with the clips scored where the answer takes long.
            idempotency_key: of a request that an earlier process may have sent already; a new one by default.
            wait_s: seconds to wait for a job that outlasts the server's own patience. Then it is deleted.
            options: those of `JobRequest`.

        Raises VidtrError, OSError, TimeoutError, httpx.TransportError.
        """
        return self._run(self._flow.classify(Upload(video), options, idempotency_key, progress, wait_s))

    def submit(
        self,
        video: Video,
        *,
        progress: OnProgress = no_progress,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> JobStatus:
        """Upload a video and return its job, which goes on without this process."""
        return self._run(self._flow.submit(Upload(video), options, idempotency_key, progress))

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

    def events(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[JobEvent]:
        """Each state of a job, from its first or after `last_event_id`, as it comes; a lost connection is taken up."""
        reader = JobEventReader(job_id, last_event_id, self._flow.retry)
        while not reader.ended:
            try:
                with self._http.stream("GET", reader.path, headers=reader.headers()) as response:
                    if not reader.streams(response.status_code):
                        reader.opened(Reply(response.status_code, response.headers, response.read()))
                        continue
                    for sent in EventSource(response).iter_sse():
                        yield reader.event(sent)
                reader.broke_off()
            except (httpx.TransportError, VidtrError) as error:
                time.sleep(reader.pause_s(error))

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

    def _do(self, step: Send | Sleep) -> Reply | None:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        content = None if step.upload is None else step.upload.chunks(step.report)
        response = self._http.request(
            step.method, step.path, params=step.params, headers=step.all_headers(), content=content
        )
        return Reply(response.status_code, response.headers, response.content)
