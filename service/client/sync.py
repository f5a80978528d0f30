"""The synchronous client: upload a video, wait for its answer, get typed results and typed errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import httpx

from service.contracts import JobRequest, JobResult, JobState, JobStatus
from service.errors import BackendFailed, InternalError, MalformedRequest, VidtrError, error_from_dict

CHUNK_BYTES = 1 << 18
POLL_S = 0.5

Progress = Callable[[int, int], None]


class Client:
    """Talks to one server.

    Errors of the service are raised as the exceptions of `service.errors`; a server that cannot be reached raises
    `httpx.TransportError`.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout_s: float = 600.0) -> None:
        self._timeout_s = timeout_s
        # A 202 comes at the latest when the server's own wait is over; until then a quiet connection is no fault.
        self._http = httpx.Client(
            base_url=base_url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def classify(self, path: Path, options: JobRequest | None = None, *, progress: Progress | None = None) -> JobResult:
        """Upload the file at `path` and wait for its answer.

        `progress` is called with (bytes sent, bytes in all). A job that outlasts the server's wait is polled.
        """
        query = (options or JobRequest()).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        size = path.stat().st_size
        with path.open("rb") as file:
            response = self._http.post(
                "/v1/classify",
                params=query,
                content=_chunks(file, size, progress),
                headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            )
        if response.status_code == httpx.codes.ACCEPTED:
            return self.wait(_checked(response).json()["id"])
        return JobResult.model_validate_json(_checked(response).content)

    def job(self, job_id: str) -> JobStatus:
        """How a job stands. Raises UnknownJob or ResultExpired."""
        return JobStatus.model_validate_json(_checked(self._http.get(f"/v1/jobs/{job_id}")).content)

    def wait(self, job_id: str) -> JobResult:
        """Poll the job until it has ended; return its result or raise its error."""
        end = time.monotonic() + self._timeout_s
        while True:
            status = self.job(job_id)
            if status.result is not None:
                return status.result
            if status.error is not None:
                raise error_from_dict(status.error)
            if status.status is JobState.FAILED or time.monotonic() > end:
                detail = f"job {job_id} is {status.status} and has no result"
                raise BackendFailed(detail)
            time.sleep(POLL_S)


def _chunks(file: BinaryIO, size: int, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        if progress is not None:
            progress(sent, size)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise _error(response)


def _error(response: httpx.Response) -> VidtrError:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "code" in body and "detail" in body:
        return error_from_dict(body)
    detail = f"the server answered {response.status_code} without a problem document"
    return InternalError(detail) if response.is_server_error else MalformedRequest(detail)
