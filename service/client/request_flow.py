"""The client's logic without I/O: which requests it sends, when it waits, how it reads the answers.

A flow is a generator that yields what is to be done next, `Send` or `Sleep`, and is given the `Reply`; what goes wrong
is thrown into it. `service.client.sync` and `service.client.aio` carry flows out, and differ in nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Literal, TypedDict, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from service.client.classify_events import ACCEPT, ClassifyEvents, OnWindow
from service.client.client_errors import Reply, error_of, foreign, parsed, problem_error
from service.client.resumable_flow import reference, remove, send_in_pieces
from service.client.retries import Retry
from service.client.steps import OnProgress, Progress, Send, Sleep, Steps
from service.client.transport import with_proxy
from service.client.uploads import Upload
from service.contracts import JobRequest, JobResult, JobState, JobStatus
from service.errors import BackendFailed, DeadlineExceeded, InvalidOption, JobDeleted, sentence
from service.wire import JobPage, ModelList

FIRST_POLL_S = 0.1
LONGEST_POLL_S = 2.0

T = TypeVar("T")


class Options(TypedDict, total=False):
    """Options of a classification; those left out have the defaults of `JobRequest`."""

    model: str | None
    version: str | None
    top_k: int
    min_score: float
    windows: Literal["auto", "all"] | int
    stride: float | None
    split: Literal["none", "shots"]
    crops: Literal[1, 3]
    start: float | None
    end: float | None
    stream: int | None
    attention: Literal["none", "frames", "layers", "spatial"]
    evidence: Literal["none", "causal"]
    evidence_label: str | None
    evidence_window: int | None
    evidence_orders: int
    embedding: bool
    webhook: str | None


ExportFormat = Literal["json", "csv", "vtt", "srt", "edl", "otio", "activitynet", "label-studio", "fiftyone"]
Exported = Literal["events", "shots"]


class RequestFlow:
    """The flows of one client; `proxy` is the one of the environment that is asked in the place of the server."""

    def __init__(self, retry: Retry, clock: Callable[[], float] = time.monotonic, proxy: str | None = None) -> None:
        self.retry = retry
        self.proxy = proxy
        self._clock = clock

    def request(self, send: Send) -> Steps[Reply]:
        """Send until there is an answer that is no error, or an error that will not pass: then raise it."""
        started = self._clock()
        tries = 0
        while True:
            tries += 1
            failure: Exception | None
            try:
                reply: Reply = yield send
                failure = error_of(reply)
            except httpx.TransportError as error:
                failure = with_proxy(error, self.proxy)
            if failure is None:
                return reply
            pause_s = self.retry.pause_s(failure, tries, self._clock() - started)
            if pause_s is None or (send.upload is not None and not send.upload.repeatable):
                raise failure
            yield Sleep(pause_s)

    def classify(
        self,
        upload: Upload,
        options: Options,
        key: str | None,
        progress: OnProgress,
        timeout_s: float,
        on_window: OnWindow | None = None,
        *,
        resumable: bool = False,
    ) -> Steps[JobResult]:
        """Upload and wait for the answer. A caller that stops waiting deletes the job: no other client knows it."""

        def flow(upload: Upload, progress: OnProgress) -> Steps[JobResult]:
            return self._classify(upload, options, key, progress, timeout_s, on_window)

        return (yield from self._in_pieces(upload, progress, flow) if resumable else flow(upload, progress))

    def _in_pieces(
        self, upload: Upload, progress: OnProgress, flow: Callable[[Upload, OnProgress], Steps[T]]
    ) -> Steps[T]:
        """Carry out `flow` for an upload that has arrived in pieces, which are erased afterwards."""
        if upload.is_reference:
            return (yield from flow(upload, progress))

        def later(done: Progress) -> None:
            if done.stage != "upload":
                progress(done)

        path = yield from send_in_pieces(self, upload, progress, self._clock)
        try:
            result = yield from flow(reference(path), later)
        except GeneratorExit:
            raise
        except BaseException:
            yield from remove(path)
            raise
        yield from remove(path)
        return result

    def _classify(
        self,
        upload: Upload,
        options: Options,
        key: str | None,
        progress: OnProgress,
        timeout_s: float,
        on_window: OnWindow | None,
    ) -> Steps[JobResult]:
        events = None if on_window is None else ClassifyEvents(on_window)
        headers = {} if events is None else {"Accept": ACCEPT}
        job_id = None
        try:
            reply = yield from self.request(_request(upload, options, key, progress, headers, events))
            if reply.status != httpx.codes.ACCEPTED:
                return parsed(JobResult, reply)
            job_id = parsed(JobStatus, reply).id
            return (yield from self.wait(job_id, progress, timeout_s))
        except GeneratorExit:
            raise
        except BaseException as error:
            job_id = events.job_id if events is not None and job_id is None else job_id
            if job_id is not None and (not isinstance(error, Exception) or isinstance(error, TimeoutError)):
                with contextlib.suppress(httpx.TransportError):
                    yield Send("DELETE", f"/v1/jobs/{job_id}", shielded=True)
            raise

    def submit(
        self, upload: Upload, options: Options, key: str | None, progress: OnProgress, *, resumable: bool = False
    ) -> Steps[JobStatus]:
        """Upload and come back with the job."""

        def flow(upload: Upload, progress: OnProgress) -> Steps[JobStatus]:
            return self._submit(upload, options, key, progress)

        return (yield from self._in_pieces(upload, progress, flow) if resumable else flow(upload, progress))

    def _submit(self, upload: Upload, options: Options, key: str | None, progress: OnProgress) -> Steps[JobStatus]:
        reply = yield from self.request(_request(upload, options, key, progress, {"Prefer": "respond-async"}))
        return parsed(JobStatus, reply)

    def job(self, job_id: str) -> Steps[JobStatus]:
        """How a job stands."""
        reply = yield from self.request(Send("GET", f"/v1/jobs/{job_id}"))
        return parsed(JobStatus, reply)

    def wait(self, job_id: str, progress: OnProgress, timeout_s: float) -> Steps[JobResult]:
        """Ask for a job, less and less often, until it has ended."""
        end = self._clock() + timeout_s
        poll_s = FIRST_POLL_S
        while True:
            status = yield from self.job(job_id)
            progress(Progress("clips", status.clips_done, status.clips_total))
            if status.result is not None:
                return status.result
            _raise_for_end(status)
            left_s = end - self._clock()
            if left_s <= 0:
                raise TimeoutError(f"job {job_id} is still {status.status} after {timeout_s:g} s")
            yield Sleep(min(poll_s, left_s))
            poll_s = min(LONGEST_POLL_S, poll_s * 1.5)

    def cancel(self, job_id: str) -> Steps[None]:
        """Delete a job."""
        yield from self.request(Send("DELETE", f"/v1/jobs/{job_id}"))

    def export(self, job_id: str, form: ExportFormat, of: Exported, name: str | None) -> Steps[str]:
        """The answer to a job as the text of a file."""
        params = {"format": form, "of": of, **({} if name is None else {"name": name})}
        reply = yield from self.request(Send("GET", f"/v1/jobs/{job_id}/result", params))
        if not reply.headers.get("content-disposition", "").startswith("attachment"):
            raise foreign(reply)
        return reply.content.decode()

    def page(self, cursor: str | None, limit: int) -> Steps[JobPage]:
        """Some of the caller's jobs."""
        params = {"limit": str(limit), **({} if cursor is None else {"cursor": cursor})}
        reply = yield from self.request(Send("GET", "/v1/jobs", params))
        return parsed(JobPage, reply)

    def models(self) -> Steps[ModelList]:
        """Every served model."""
        reply = yield from self.request(Send("GET", "/v1/models"))
        return parsed(ModelList, reply)


def _request(
    upload: Upload,
    options: Options,
    key: str | None,
    progress: OnProgress,
    headers: Mapping[str, str],
    events: ClassifyEvents | None = None,
) -> Send:
    return Send(
        "POST",
        "/v1/classify",
        query_of(options),
        {"Content-Type": upload.content_type, "Idempotency-Key": key or uuid4().hex, **headers},
        upload,
        progress,
        events=events,
    )


def query_of(options: Options) -> dict[str, str]:
    """The query of a request: options that differ from their defaults.

    Raises TypeError for a name that is no option, InvalidOption for a value that none has.
    """
    if unknown := options.keys() - JobRequest.model_fields.keys():
        raise TypeError(f"no option of a classification: {', '.join(sorted(unknown))}")
    try:
        request = JobRequest.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        detail = f"Option {first['loc'][0]!r} is not valid: {sentence(first['msg'])}"
        raise InvalidOption(detail) from error
    given = request.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return {name: str(value) for name, value in given.items()}


def _raise_for_end(status: JobStatus) -> None:
    if status.error is not None:
        raise problem_error(status.error)
    detail = f"Job {status.id} is {status.status} and has no result."
    match status.status:
        case JobState.CANCELLED:
            raise JobDeleted(detail)
        case JobState.EXPIRED:
            raise DeadlineExceeded(detail)
        case JobState.FAILED | JobState.SUCCEEDED:
            raise BackendFailed(detail)
