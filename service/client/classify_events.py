"""The events of one classification whose windows are reported as they are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from httpx_sse import ServerSentEvent
from pydantic import BaseModel

from service.client.client_errors import Reply, foreign, parsed
from service.contracts import JobResult, WindowResult

OnWindow = Callable[[int, WindowResult], None]
"""Called with the index of a window in the answer, and with the window."""

ACCEPT = "text/event-stream, application/problem+json"


class _Index(BaseModel):
    index: int


class _Uploaded(BaseModel):
    id: str


class ClassifyEvents:
    """State of one request, kept while it is repeated: each window is reported once, in whatever order they come.

    Attributes:
        job_id: of the job that the request became; None as long as the upload is not complete.
    """

    def __init__(self, report: OnWindow) -> None:
        self._report = report
        self._reported: set[int] = set()
        self.job_id: str | None = None

    def take(self, sent: ServerSentEvent) -> Reply | None:
        """Look at an event; the whole answer once it is the last one."""
        body = sent.data.encode()
        data = Reply(httpx.codes.OK, {"content-type": "text/event-stream"}, body)
        match sent.event:
            case "uploaded":
                self.job_id = parsed(_Uploaded, data).id
            case "window":
                self._once(parsed(_Index, data).index, parsed(WindowResult, data))
            case "result":
                for index, window in enumerate(parsed(JobResult, data).windows):
                    self._once(index, window)
                return data
            case "problem":
                return _refusal(data)
        return None

    def broke_off(self) -> httpx.RemoteProtocolError:
        """The error of a stream that ended before the answer; the same request, sent again, finds its job."""
        return httpx.RemoteProtocolError("the server ended the stream before the answer")

    def _once(self, index: int, window: WindowResult) -> None:
        if index not in self._reported:
            self._reported.add(index)
            self._report(index, window)


def _refusal(data: Reply) -> Reply:
    """The answer that the request would have had without a stream."""
    try:
        problem: dict[str, Any] = json.loads(data.content)
        status, after_s = int(problem["status"]), problem.get("retry_after_s")
    except (ValueError, TypeError, KeyError) as error:
        raise foreign(data) from error
    headers = {"content-type": "application/problem+json"}
    return Reply(status, headers if after_s is None else {**headers, "retry-after": str(after_s)}, data.content)
