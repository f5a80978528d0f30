"""Uploads that arrive in pieces, as the routes see them: bodies of requests into the store, one writer at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api import tus
from service.api.auth import Principal
from service.api.resumable_store import Appending, Arrived, ResumableStore
from service.api.spool import WRITE_BYTES, Spool
from service.api.upload import UploadsEnd, UploadTimes, check_codings, chunks
from service.digest import file_sha256
from service.errors import MalformedRequest, UploadIncomplete, UploadLocked
from service.periodic import Periodic
from service.telemetry import metrics

log = structlog.get_logger()

SWEEP_S = 60.0
# A client that lost its connection comes back sooner than the server notices.
SILENT_S = 2.0


class _Writer:
    """One request that appends to an upload. Its bytes go to disk a piece at a time, and at its end."""

    def __init__(self, appending: Appending, checksum: tus.Checksum | None) -> None:
        self._appending = appending
        self._checksum = checksum
        self._pending = bytearray()
        self._writing = asyncio.Lock()
        self._end: asyncio.Timeout | None = None
        self._closed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()

    @property
    def silent(self) -> bool:
        """Whether nothing has come for so long that its connection may be dead."""
        return self._clock() - self._heard_at > SILENT_S

    async def receive(self, stream: AsyncIterator[bytes]) -> None:
        """Append what comes. Raises UploadTooLarge, ChecksumMismatch, UploadLocked, and what `stream` raises."""
        try:
            async with asyncio.timeout(None) as self._end:
                async for chunk in stream:
                    self._heard_at = self._clock()
                    self._appending.check(len(self._pending) + len(chunk))
                    self._pending += chunk
                    if len(self._pending) >= WRITE_BYTES:
                        await self.flush()
        except TimeoutError:
            detail = "Another request goes on with this upload. Ask for its offset before you send more."
            raise UploadLocked(detail) from None
        finally:
            await self.flush()
        if self._checksum is not None:
            self._checksum.check()
            self._appending.accept()
        await asyncio.to_thread(self._appending.check_whole)

    async def flush(self) -> None:
        """Write what has arrived."""
        async with self._writing:
            pending, self._pending = self._pending, bytearray()
            if pending:
                await asyncio.to_thread(self._write, pending)

    async def give_way(self) -> None:
        """End this request; returns once its bytes are on disk and its lock is given up."""
        if self._end is not None and not self._end.expired():
            self._end.reschedule(self._clock())
        await self._closed.wait()

    async def close(self) -> None:
        """Give up the lock."""
        await asyncio.to_thread(self._appending.close)
        self._closed.set()

    def _write(self, data: bytearray) -> None:
        if self._checksum is not None:
            self._checksum.update(data)
        self._appending.write(data)
        metrics.UPLOAD_BYTES.inc(len(data))


class ResumableUploads:
    """The resumable uploads of one process; those of other processes too, where they share the spool."""

    def __init__(
        self,
        store: ResumableStore,
        times: UploadTimes,
        end: UploadsEnd,
        receiving: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        """`receiving` is a place among the uploads that the process receives at a time, for a caller."""
        self._store = store
        self._times = times
        self._end = end
        self._receiving = receiving
        self._writers: dict[str, _Writer] = {}
        self._sweeping = Periodic("resumable-uploads", SWEEP_S, self._sweep)

    def start(self) -> None:
        """Begin to erase what expires; call once, in the event loop."""
        self._sweeping.start()

    async def close(self) -> None:
        """Stop."""
        await self._sweeping.close()

    async def create(self, request: Request, caller: Principal) -> Arrived:
        """A new upload, with what the request's body has of it already.

        Raises MalformedRequest, UploadTooLarge, TooManyUploads, DiskFull, and what `append` raises.
        """
        length, pairs = tus.number(request.headers, "Upload-Length"), tus.metadata(request.headers)
        arrived = await asyncio.to_thread(
            self._store.create,
            caller.tenant,
            length,
            request.headers.get("upload-metadata", ""),
            tus.announced_sha256(pairs),
        )
        if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
            return arrived
        tus.check_body_type(request.headers)
        return await self._append(request, arrived.upload.id, caller, 0)

    async def find(self, upload_id: str, caller: Principal) -> Arrived:
        """How an upload stands, with all that has arrived by now. Raises UnknownUpload."""
        if (writer := self._writers.get(upload_id)) is not None:
            await writer.flush()
        return await asyncio.to_thread(self._store.find, upload_id, caller.may_read)

    async def append(self, request: Request, upload_id: str, caller: Principal) -> Arrived:
        """Append the request's body. What arrived of one that breaks off counts, unless it has a checksum.

        A request that goes on where an upload stands takes it over from one that has fallen silent.

        Raises:
            MalformedRequest, UnsupportedMediaType: it is no piece of an upload.
            UnknownUpload, UploadOffsetMismatch, UploadLocked: it does not fit to what has arrived.
            UploadTooLarge, ChecksumMismatch: it is not what was announced.
            QueueFull, UploadTimeout, Draining: not now.
        """
        tus.check_body_type(request.headers)
        return await self._append(request, upload_id, caller, tus.number(request.headers, "Upload-Offset"))

    async def remove(self, upload_id: str, caller: Principal) -> None:
        """Erase an upload. Raises UnknownUpload."""
        await self.find(upload_id, caller)
        if (writer := self._writers.get(upload_id)) is not None:
            await writer.give_way()
        await asyncio.to_thread(self._store.remove, upload_id, caller.may_erase)

    async def adopt(self, upload_id: str, caller: Principal, spool: Spool) -> None:
        """Let `spool` hold a complete upload. Raises UnknownUpload, UploadIncomplete."""
        arrived = await self.find(upload_id, caller)
        if not arrived.complete:
            length = arrived.upload.length
            detail = f"{arrived.offset} of {length} bytes of upload {upload_id} have arrived. Send the rest first."
            raise UploadIncomplete(detail, limit=length, actual=arrived.offset)
        path = self._store.path(upload_id)
        digest = await asyncio.to_thread(file_sha256, path) if spool.hashed else ""
        await asyncio.to_thread(spool.adopt, path, arrived.upload.length, digest)

    async def _append(self, request: Request, upload_id: str, caller: Principal, offset: int) -> Arrived:
        check_codings(request.headers)
        checksum = tus.Checksum.of(request.headers)
        arrived = await self.find(upload_id, caller)
        if (writer := self._writers.get(upload_id)) is not None and writer.silent and arrived.offset == offset:
            await writer.give_way()
        with self._receiving(caller.identity):
            async with self._writer(upload_id, caller, offset, checksum) as writer:
                try:
                    await writer.receive(chunks(request, self._times, self._end))
                except ClientDisconnect as error:
                    detail = "The client closed the connection before the piece was complete."
                    raise MalformedRequest(detail) from error
        return await self.find(upload_id, caller)

    @contextlib.asynccontextmanager
    async def _writer(
        self, upload_id: str, caller: Principal, offset: int, checksum: tus.Checksum | None
    ) -> AsyncIterator[_Writer]:
        appending = await asyncio.to_thread(
            self._store.append, upload_id, caller.may_read, offset, verify=checksum is not None
        )
        writer = self._writers[upload_id] = _Writer(appending, checksum)
        try:
            yield writer
        finally:
            if self._writers.get(upload_id) is writer:
                del self._writers[upload_id]
            await writer.close()

    async def _sweep(self) -> None:
        if erased := await asyncio.to_thread(self._store.sweep):
            log.info("uploads_expired", count=erased)
