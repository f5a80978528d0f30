"""The request body into the spool: the raw bytes of a video, or the part `file` of a form; never whole in memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from service.api.auth import Principal
from service.api.header_lists import elements, joined
from service.api.shares import Shared
from service.api.spool import Spool, SpoolConfig
from service.api.upload_form import FORM_OVERHEAD_BYTES, receive_form
from service.api.upload_reference import REFERENCE_TYPE, read_reference
from service.errors import (
    RETRY_AFTER_S,
    Draining,
    EmptyUpload,
    MalformedRequest,
    UnsupportedMediaType,
    UploadTimeout,
)

Hold = Callable[[str, Principal, Spool], Awaitable[None]]


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
class References:
    """What lets a spool hold a video that is not the body of the request."""

    adopt: Hold
    """by the id of an upload that arrived in pieces"""
    fetch: Hold
    """by its URL"""


@dataclass(frozen=True)
class UploadReceiver:
    """Receives the uploads of one process: where they go, how callers share that space, how slow they may be, and
    when they end with the process."""

    config: SpoolConfig
    shared: Shared
    times: UploadTimes
    references: References
    end: UploadsEnd = field(default_factory=UploadsEnd)

    def spool(self, caller: str, *, hashed: bool) -> Spool:
        """Place for an upload of this caller; `hashed` where it will be compared with others."""
        return Spool(self.config, hashed=hashed, shared=self.shared, caller=caller)

    async def receive(self, request: Request, spool: Spool, caller: Principal) -> int:
        """See `receive`; a body in JSON names an upload that arrived earlier. Returns the bytes that arrived now."""
        kind, _ = parse_options_header(request.headers.get("content-type"))
        if kind != REFERENCE_TYPE:
            await receive(request, spool, self.times, self.end)
            return spool.received
        reference = await read_reference(chunks(request, self.times, self.end))
        if reference.upload is not None:
            await self.references.adopt(reference.upload, caller, spool)
            return 0
        await self.references.fetch(reference.url, caller, spool)
        # Where the server knows no ranges, what came is an upload like any other.
        return 0 if spool.source is not None and spool.source.size else await spool.finish()


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


async def chunks(request: Request, times: UploadTimes, end: UploadsEnd) -> AsyncIterator[bytes]:
    """The body of a request as it arrives. Raises UploadTimeout, Draining, ClientDisconnect."""
    patience, stream = _Patience(times, end), request.stream()
    while True:
        try:
            yield await patience.next(stream)
        except StopAsyncIteration:
            return


def check_codings(headers: Headers) -> None:
    """Refuse a body that was compressed on its way: unpacking it would need limits of its own, and gains nothing."""
    for name, known in (("content-encoding", "identity"), ("transfer-encoding", "chunked")):
        for coding in elements(joined(headers, name)):
            if coding.name != known:
                detail = f"The coding {coding.name!r} in {name.title()} is not accepted. Send the video as it is."
                raise UnsupportedMediaType(detail, limit=known, actual=coding.name)


async def receive(request: Request, spool: Spool, times: UploadTimes, end: UploadsEnd) -> None:
    """Stream the body of `request` into `spool`.

    Raises UploadTooLarge, UploadTimeout, Draining, EmptyUpload, UnsupportedMediaType, MalformedRequest, InvalidOption
    or DiskFull.
    """
    check_codings(request.headers)
    kind, options = parse_options_header(request.headers.get("content-type"))
    length = request.headers.get("content-length", "")
    form = kind == b"multipart/form-data"
    if length.isdecimal():
        spool.expect(int(length) - (FORM_OVERHEAD_BYTES if form else 0))
    try:
        if form:
            await receive_form(chunks(request, times, end), spool, options.get(b"boundary", b""))
        elif kind.startswith(b"video/") or kind in (b"application/octet-stream", b"image/gif", b""):
            async for chunk in chunks(request, times, end):
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
