"""What the client asks of batches, without I/O."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from service.client.client_errors import foreign, parsed
from service.client.request_flow import Options, RequestFlow, query_of
from service.client.steps import Send, Sleep, Steps
from service.client.uploads import Upload, VideoUrl
from service.wire import BatchPage, BatchResult, BatchStatus

JSONL_TYPE, CSV_TYPE = "application/jsonl", "text/csv"
FIRST_POLL_S = 0.2
LONGEST_POLL_S = 5.0

Manifest = str | os.PathLike[str] | bytes | Iterable[VideoUrl | Mapping[str, Any]]
"""A path (`.csv` is CSV, all else JSONL), JSONL as bytes, or the lines: a `VideoUrl` or the members of a line each."""


@dataclass(frozen=True)
class ResultPage:
    """Some results of a batch, and whether others may come."""

    results: list[BatchResult]
    more: bool


class BatchFlow:
    """The flows of one client."""

    def __init__(self, requests: RequestFlow) -> None:
        self._requests = requests

    def create(
        self,
        manifest: Manifest,
        options: Options,
        key: str | None,
        destination: str | None = None,
        batch_webhook: str | None = None,
    ) -> Steps[BatchStatus]:
        """Send a manifest."""
        content_type, upload = _upload(manifest)
        headers = {"Content-Type": content_type, "Idempotency-Key": key or uuid4().hex}
        own = {"destination": destination, "batch_webhook": batch_webhook}
        query = {**query_of(options), **{name: value for name, value in own.items() if value is not None}}
        reply = yield from self._requests.request(Send("POST", "/v1/batches", query, headers, upload))
        return parsed(BatchStatus, reply)

    def status(self, batch_id: str) -> Steps[BatchStatus]:
        """How a batch stands."""
        return parsed(BatchStatus, (yield from self._requests.request(Send("GET", f"/v1/batches/{batch_id}"))))

    def cancel(self, batch_id: str) -> Steps[BatchStatus]:
        """Cancel what has not ended."""
        return parsed(BatchStatus, (yield from self._requests.request(Send("DELETE", f"/v1/batches/{batch_id}"))))

    def page(self, cursor: str | None, limit: int) -> Steps[BatchPage]:
        """Some of the caller's batches."""
        params = {"limit": str(limit), **({} if cursor is None else {"cursor": cursor})}
        return parsed(BatchPage, (yield from self._requests.request(Send("GET", "/v1/batches", params))))

    def results(self, batch_id: str, after: int, limit: int, *, wait: bool) -> Steps[ResultPage]:
        """The results after the first `after`: with `wait` some, unless the batch has ended; else those there are."""
        poll_s = FIRST_POLL_S
        while True:
            page = yield from self._results(batch_id, after, limit)
            if page.results or not page.more or not wait:
                # Without `wait` a page that is not full is the last.
                return ResultPage(page.results, page.more and (wait or len(page.results) == limit))
            yield Sleep(poll_s)
            poll_s = min(LONGEST_POLL_S, poll_s * 1.5)

    def _results(self, batch_id: str, after: int, limit: int) -> Steps[ResultPage]:
        params = {"after": str(after), "limit": str(limit)}
        reply = yield from self._requests.request(Send("GET", f"/v1/batches/{batch_id}/results", params))
        try:
            # Other ends of lines, such as U+2028, may stand within a text of JSON.
            lines = [line for line in reply.content.split(b"\n") if line]
            found = [BatchResult.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise foreign(reply) from error
        return ResultPage(found, 'rel="next"' in reply.headers.get("link", ""))


def _upload(manifest: Manifest) -> tuple[str, Upload]:
    if isinstance(manifest, bytes):
        return JSONL_TYPE, Upload(manifest)
    if isinstance(manifest, str | os.PathLike):
        return CSV_TYPE if Path(manifest).suffix.lower() == ".csv" else JSONL_TYPE, Upload(manifest)
    body = io.BytesIO()
    for line in manifest:
        said = {"source": {"url": line.url}} if isinstance(line, VideoUrl) else line
        body.write(json.dumps(said).encode() + b"\n")
    return JSONL_TYPE, Upload(body.getvalue())
