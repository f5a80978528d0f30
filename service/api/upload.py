"""The request body into the spool: the raw bytes of a video, or the part `file` of a form; never whole in memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from service.api.shares import Shared
from service.api.spool import Spool, SpoolConfig
from service.errors import (
    RETRY_AFTER_S,
    Draining,
    EmptyUpload,
    InvalidOption,
    MalformedRequest,
    UnsupportedMediaType,
    UploadTimeout,
    sentence,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# The framing of a form around its one file; a longer prelude is no upload of ours.
FORM_OVERHEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class UploadTimes:
    """Longest pause in an upload, and the longest it may take, in seconds; its least average speed, and by how many
    seconds it may lag behind that. Field names equal those of `service.settings.Settings`."""

    upload_idle_s: float
    upload_timeout_s: float
    upload_min_bytes_per_s: int = 0
    upload_grace_s: float = 0.0


class UploadsEnd:
    """When the uploads of one process have to be complete because it stops: never, until it is told to."""

    def __init__(self) -> None:
        self.at = math.inf
        self._waits: set[asyncio.Timeout] = set()

    def end_after(self, seconds: float) -> None:
        """Refuse what is then still arriving. May be called in a signal handler."""
        self.at = min(self.at, time.monotonic() + seconds)
        for wait in self._waits:
            if not wait.expired() and (wait.when() or 0.0) > self.at:
                wait.reschedule(self.at)

    async def next(self, stream: AsyncIterator[bytes], timeout_s: float) -> bytes:
        """The next bytes. Raises TimeoutError after `timeout_s`, or earlier where uploads end; StopAsyncIteration."""
        async with asyncio.timeout(timeout_s) as wait:
            self._waits.add(wait)
            try:
                return await anext(stream)
            finally:
                self._waits.discard(wait)


@dataclass(frozen=True)
class UploadReceiver:
    """Receives the uploads of one process: where they go, how callers share that space, how slow they may be, and
    when they end with the process."""

    config: SpoolConfig
    shared: Shared
    times: UploadTimes
    end: UploadsEnd = field(default_factory=UploadsEnd)

    def spool(self, caller: str, *, hashed: bool) -> Spool:
        """Place for an upload of this caller; `hashed` where it will be compared with others."""
        return Spool(self.config, hashed=hashed, shared=self.shared, caller=caller)

    async def receive(self, request: Request, spool: Spool) -> None:
        """See `receive`."""
        await receive(request, spool, self.times, self.end)


class _Patience:
    """How long the next bytes of one upload are waited for. The time that we take ourselves is not held against it."""

    def __init__(self, times: UploadTimes, end: UploadsEnd) -> None:
        self._times = times
        self._stop = end
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + times.upload_timeout_s
        self._received = 0
        self._waited_s = 0.0

    async def next(self, stream: AsyncIterator[bytes]) -> bytes:
        """The next bytes. Raises UploadTimeout, Draining, or StopAsyncIteration at the end."""
        started = self._clock()
        limits = self._limits(started)
        try:
            chunk = await self._stop.next(stream, max(0.0, min(limits.values())))
        except TimeoutError as error:
            self._waited_s += self._clock() - started
            # Read again: the process may have been told to stop during the wait.
            limits = {**limits, "stop": self._stop.at - started}
            raise self._timeout(min(limits, key=lambda kind: limits[kind])) from error
        self._waited_s += self._clock() - started
        self._received += len(chunk)
        return chunk

    def _limits(self, now: float) -> dict[str, float]:
        """Seconds until each limit is reached, if nothing comes."""
        times = self._times
        limits = {"idle": times.upload_idle_s, "whole": self._end - now, "stop": self._stop.at - now}
        if times.upload_min_bytes_per_s:
            due_s = times.upload_grace_s + self._received / times.upload_min_bytes_per_s
            limits["speed"] = due_s - self._waited_s
        return limits

    def _timeout(self, reached: str) -> UploadTimeout | Draining:
        times = self._times
        if reached == "stop":
            detail = (
                f"This process is shutting down, and {self._received} bytes of the upload had arrived. Send it again."
            )
            return Draining(detail, retry_after_s=RETRY_AFTER_S)
        if reached == "whole":
            return UploadTimeout(
                f"The upload took longer than {times.upload_timeout_s:g} s.", limit=times.upload_timeout_s
            )
        if reached == "idle":
            return UploadTimeout(f"No bytes arrived for {times.upload_idle_s:g} s.", limit=times.upload_idle_s)
        least, speed = times.upload_min_bytes_per_s, round(self._received / max(self._waited_s, 1e-3))
        detail = f"{self._received} bytes arrived in {self._waited_s:.0f} s, less than {least} bytes per second."
        return UploadTimeout(detail, limit=least, actual=speed)


async def _chunks(request: Request, times: UploadTimes, end: UploadsEnd) -> AsyncIterator[bytes]:
    patience, stream = _Patience(times, end), request.stream()
    while True:
        try:
            yield await patience.next(stream)
        except StopAsyncIteration:
            return


async def receive(request: Request, spool: Spool, times: UploadTimes, end: UploadsEnd) -> None:
    """Stream the body of `request` into `spool`.

    Raises UploadTooLarge, UploadTimeout, Draining, EmptyUpload, UnsupportedMediaType, MalformedRequest, InvalidOption
    or DiskFull.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    length = request.headers.get("content-length", "")
    form = kind == b"multipart/form-data"
    if length.isdecimal():
        spool.expect(int(length) - (FORM_OVERHEAD_BYTES if form else 0))
    try:
        if form:
            await _receive_form(_chunks(request, times, end), spool, options.get(b"boundary", b""))
        elif kind.startswith(b"video/") or kind in (b"application/octet-stream", b"image/gif", b""):
            async for chunk in _chunks(request, times, end):
                await spool.write(chunk)
        else:
            named = kind.decode("latin-1")
            detail = f"Content type {named!r} is not accepted. Send multipart/form-data with a part 'file', or video/*."
            raise UnsupportedMediaType(detail, actual=named)
    except ClientDisconnect as error:
        detail = "The client closed the connection before the upload was complete."
        raise MalformedRequest(detail, actual=spool.received) from error
    if await spool.finish() == 0:
        detail = "The upload is empty: it has 0 bytes."
        raise EmptyUpload(detail)


async def _receive_form(chunks: AsyncIterator[bytes], spool: Spool, boundary: bytes) -> None:
    form = _FileForm()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
            for piece in form.take():
                await spool.write(piece)
        parser.finalize()
    except FormParserError as error:
        detail = f"The form cannot be parsed: {sentence(str(error))}"
        raise MalformedRequest(detail) from error
    if not form.ended:
        detail = "The form ends before its closing boundary."
        raise MalformedRequest(detail)
    if form.files == 0:
        detail = "The form has no part named 'file'. Send the video as this part."
        raise MalformedRequest(detail)


class _FileForm:
    """Callbacks for the parser: collects the bytes of the part `file` and refuses every other part."""

    def __init__(self) -> None:
        self.files = 0
        self.ended = False
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def take(self) -> list[bytes]:
        """The file's bytes since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "file":
            detail = f"Form field {name!r} is unknown. The form has one part, 'file'; send options as query parameters."
            raise InvalidOption(detail, actual=name)
        self.files += 1
        if self.files > 1:
            detail = "The form has more than one part named 'file'. Send one video per request."
            raise InvalidOption(detail, limit=1, actual=self.files)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self.ended = True
