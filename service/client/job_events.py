"""The events of one job, taken up again where a lost connection left off: what to ask for, and when."""

from __future__ import annotations

import time

import httpx
from httpx_sse import ServerSentEvent

from service.client.client_errors import Reply, error_of, foreign, parsed
from service.client.retries import Retry
from service.wire import JobEvent


def is_event_stream(response: httpx.Response) -> bool:
    """Whether an answer is a stream of events."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.status_code == httpx.codes.OK and kind == "text/event-stream"


class JobEventReader:
    """State of one stream of events."""

    def __init__(self, job_id: str, last_event_id: str | None, retry: Retry) -> None:
        self.path = f"/v1/jobs/{job_id}/events"
        self.ended = False
        self._last_id = last_event_id
        self._retry = retry
        self._failed_since: float | None = None
        self._tries = 0

    def headers(self) -> dict[str, str]:
        """Of the next request."""
        accept = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        return accept if self._last_id is None else {**accept, "Last-Event-ID": self._last_id}

    def opened(self, reply: Reply) -> None:
        """Look at an answer whose body is empty or a problem; raises the error that it is."""
        error = error_of(reply)
        if error is not None:
            raise error
        if reply.status != httpx.codes.NO_CONTENT:
            raise foreign(reply)
        self.ended = True

    def broke_off(self) -> None:
        """The stream ended; raises httpx.RemoteProtocolError where the job has not."""
        if not self.ended:
            raise httpx.RemoteProtocolError("the server ended the stream before the job")

    def event(self, sent: ServerSentEvent) -> JobEvent:
        """An event that came."""
        data = Reply(httpx.codes.OK, {"content-type": "text/event-stream"}, sent.data.encode())
        event = parsed(JobEvent, data).model_copy(update={"event_id": sent.id})
        self._last_id, self._failed_since, self._tries = sent.id, None, 0
        self.ended = event.status.is_final
        return event

    def pause_s(self, error: Exception) -> float:
        """Seconds until a stream that broke or was refused is opened again; raises `error` where that is vain."""
        now = time.monotonic()
        if self._failed_since is None:
            self._failed_since = now
        self._tries += 1
        pause_s = self._retry.pause_s(error, self._tries, now - self._failed_since)
        if pause_s is None:
            raise error
        return pause_s
