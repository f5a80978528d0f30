"""A video that is sent in pieces by tus 1.0: after a cut the rest is sent, not all of it again."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from typing import Protocol

import httpx

from service.client.client_errors import Reply, error_of, parsed
from service.client.retries import Retry
from service.client.steps import Compute, OnProgress, Send, Sleep, Steps
from service.client.transport import with_proxy
from service.client.uploads import Upload, named
from service.errors import UnexpectedAnswer, UploadOffsetMismatch
from service.wire import UploadStatus

_TUS = {"Tus-Resumable": "1.0.0"}
_PIECE = {**_TUS, "Content-Type": "application/offset+octet-stream"}


class Requests(Protocol):
    """What sends requests until they go through."""

    retry: Retry
    proxy: str | None

    def request(self, send: Send) -> Steps[Reply]:
        """An answer that is no error, or raise the error."""


def send_in_pieces(requests: Requests, upload: Upload, progress: OnProgress, clock: Callable[[], float]) -> Steps[str]:
    """Send all of `upload`, and give the path of what has arrived, which the server has compared by its SHA-256.

    Each piece that arrives starts `Retry.for_s` anew. Raises ValueError for a stream that cannot be rewound.
    """
    if upload.size is None:
        raise ValueError("a stream that cannot be rewound cannot be sent in pieces")
    digest: str = yield Compute(upload.sha256)
    announced = base64.b64encode(digest.encode()).decode()
    headers = {**_TUS, "Upload-Length": str(upload.size), "Upload-Metadata": f"sha256 {announced}"}
    reply = yield from requests.request(Send("POST", "/v1/uploads", headers=headers))
    location = reply.headers.get("location", "")
    if reply.status != httpx.codes.CREATED or not location:
        raise UnexpectedAnswer("The server began no upload. It, and what stands before it, has to speak tus 1.0.")
    path = httpx.URL(location).path
    try:
        yield from _send_all(requests, upload, path, progress, clock)
    except GeneratorExit:
        raise
    except BaseException:
        yield from remove(path)
        raise
    return path


def remove(path: str) -> Steps[None]:
    """Erase an upload, or leave that to its expiry."""
    with contextlib.suppress(httpx.TransportError):
        yield Send("DELETE", path, headers=_TUS, shielded=True)


def _send_all(
    requests: Requests, upload: Upload, path: str, progress: OnProgress, clock: Callable[[], float]
) -> Steps[None]:
    offset, tries, since = 0, 0, clock()
    while offset < (upload.size or 0):
        headers = {**_PIECE, "Upload-Offset": str(offset)}
        failure: Exception | None
        try:
            reply = yield Send("PATCH", path, headers=headers, upload=upload.rest(offset), progress=progress)
            failure = error_of(reply)
        except httpx.TransportError as error:
            failure = with_proxy(error, requests.proxy)
        if failure is None:
            return
        tries += 1
        pause_s = requests.retry.pause_s(failure, tries, clock() - since)
        # More or less has arrived than was known: that is asked next.
        if isinstance(failure, UploadOffsetMismatch) and tries == 1:
            pause_s = 0.0
        if pause_s is None:
            raise failure
        yield Sleep(pause_s)
        reply = yield from requests.request(Send("GET", path))
        arrived = parsed(UploadStatus, reply).offset
        if arrived > offset:
            tries, since = 0, clock()
        offset = arrived


def reference(path: str) -> Upload:
    """The body that names an upload that has arrived."""
    return named({"upload": path.rpartition("/")[2]})
