"""The client's logic without I/O: which requests it sends, when it waits, how it reads the answers.

A flow is a generator that yields what is to be done next, `Send` or `Sleep`, and is given the `Reply`; what goes wrong
is thrown into it. `service.client.sync` and `service.client.aio` carry flows out, and differ in nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from service.client.client_errors import Reply, error_of, problem_error
from service.client.retries import Retry
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
    crops: Literal[1, 3]
    start: float | None
    end: float | None
    attention: Literal["none", "frames", "layers"]
    webhook: str | None


@dataclass(frozen=True)
class Progress:
    """How far a request is: bytes sent, or clips scored of a job. `total` is None where it is not known."""

    stage: Literal["upload", "clips"]
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Send:
    """Send one request and read its whole answer. A `shielded` one is sent even while its task is being cancelled."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    progress: OnProgress = no_progress
    shielded: bool = False

    def all_headers(self) -> dict[str, str]:
        """With the length of the body, without which it is sent chunked."""
        known = self.upload is not None and self.upload.size is not None
        return {**self.headers, **({"Content-Length": str(self.upload.size)} if known and self.upload else {})}

    def report(self, sent: int, total: int | None) -> None:
        """Pass on how much of the body was sent."""
        self.progress(Progress("upload", sent, total))


@dataclass(frozen=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


Steps = Generator[Send | Sleep, Any, T]


class RequestFlow:
    """The flows of one client."""

    def __init__(self, retry: Retry, clock: Callable[[], float] = time.monotonic) -> None:
        self.retry = retry
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
                failure = error
            if failure is None:
                return reply
            pause_s = self.retry.pause_s(failure, tries, self._clock() - started)
            if pause_s is None or (send.upload is not None and not send.upload.repeatable):
                raise failure
            yield Sleep(pause_s)

    def classify(
        self, upload: Upload, options: Options, key: str | None, progress: OnProgress, timeout_s: float
    ) -> Steps[JobResult]:
        """Upload and wait for the answer. A caller that stops waiting deletes the job: no other client knows it."""
        reply = yield from self.request(_classify(upload, options, key, progress, {}))
        if reply.status != httpx.codes.ACCEPTED:
            return JobResult.model_validate_json(reply.content)
        job_id = JobStatus.model_validate_json(reply.content).id
        try:
            return (yield from self.wait(job_id, progress, timeout_s))
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) or isinstance(error, TimeoutError):
                with contextlib.suppress(httpx.TransportError):
                    yield Send("DELETE", f"/v1/jobs/{job_id}", shielded=True)
            raise

    def submit(self, upload: Upload, options: Options, key: str | None, progress: OnProgress) -> Steps[JobStatus]:
        """Upload and come back with the job."""
        reply = yield from self.request(_classify(upload, options, key, progress, {"Prefer": "respond-async"}))
        return JobStatus.model_validate_json(reply.content)

    def job(self, job_id: str) -> Steps[JobStatus]:
        """How a job stands."""
        reply = yield from self.request(Send("GET", f"/v1/jobs/{job_id}"))
        return JobStatus.model_validate_json(reply.content)

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

    def page(self, cursor: str | None, limit: int) -> Steps[JobPage]:
        """Some of the caller's jobs."""
        params = {"limit": str(limit), **({} if cursor is None else {"cursor": cursor})}
        reply = yield from self.request(Send("GET", "/v1/jobs", params))
        return JobPage.model_validate_json(reply.content)

    def models(self) -> Steps[ModelList]:
        """Every served model."""
        reply = yield from self.request(Send("GET", "/v1/models"))
        return ModelList.model_validate_json(reply.content)


def _classify(
    upload: Upload, options: Options, key: str | None, progress: OnProgress, headers: Mapping[str, str]
) -> Send:
    return Send(
        "POST",
        "/v1/classify",
        _query(options),
        {"Content-Type": "application/octet-stream", "Idempotency-Key": key or uuid4().hex, **headers},
        upload,
        progress,
    )


def _query(options: Options) -> dict[str, str]:
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
