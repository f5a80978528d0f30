"""The events of one job, taken up again where a lost connection left off: what to ask for, and when."""

from __future__ import annotations

import time

import httpx
from httpx_sse import ServerSentEvent

from service.client.client_errors import Reply, error_of
from service.client.retries import Retry
from service.wire import JobEvent


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

    @staticmethod
    def streams(status: int) -> bool:
        """Whether an answer of this status is a stream of events."""
        return status == httpx.codes.OK

    def opened(self, reply: Reply) -> None:
        """Look at an answer whose body is empty or a problem; raises the error that it is."""
        error = error_of(reply)
        if error is not None:
            raise error
        self.ended = reply.status == httpx.codes.NO_CONTENT

    def broke_off(self) -> None:
        """The stream ended; raises httpx.RemoteProtocolError where the job has not."""
        if not self.ended:
            raise httpx.RemoteProtocolError("the server ended the stream before the job")

    def event(self, sent: ServerSentEvent) -> JobEvent:
        """An event that came."""
        event = JobEvent.model_validate_json(sent.data).model_copy(update={"event_id": sent.id})
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
