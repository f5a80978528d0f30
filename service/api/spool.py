"""Uploads on their way: small ones in memory, others on disk under a secret name; gone with their request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from service.api.shares import Shared
from service.errors import DiskFull, UploadTooLarge
from service.sources.remote_file import RemoteFile

# What is written to disk at a time; a smaller upload never gets there.
WRITE_BYTES = 1 << 20
# Pieces of an upload above this are kept as they came until they are written; smaller ones are joined, for each has a
# size of its own beside its bytes.
PIECE_BYTES = 1 << 14
DISK_RETRY_AFTER_S = 10.0


@dataclass(frozen=True)
class SpoolConfig:
    """Where uploads go, how large they may be, in bytes, and whether answers say the SHA-256 of each."""

    directory: Path
    max_upload_bytes: int
    min_free_bytes: int
    hash_uploads: bool = True


class _File:
    """One file of an upload: without a name in memory where it is small and the platform can, else in the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._named = True

    @property
    def descriptor(self) -> int:
        """Open for writing, on disk unless it was made elsewhere before."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def take(self, path: Path) -> None:
        """Be what is at `path` now, whatever becomes of it there."""
        try:
            os.link(path, self.path)
        except OSError:
            # Not every file system has links.
            shutil.copyfile(path, self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def make_in_memory(self) -> None:
        """Instead of on disk; nothing happens where that is not possible, or where it is made already."""
        if self._descriptor is None and sys.platform == "linux":
            self._descriptor = os.memfd_create("vidtr-upload")
            os.fchmod(self._descriptor, 0o600)
            self.path, self._named = Path(f"/proc/self/fd/{self._descriptor}"), False

    def remove(self) -> None:
        """Give it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._named:
            with contextlib.suppress(OSError):
                self.path.unlink()


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` where the file stands, in as many pieces as the system takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_all_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def disk_error(error: OSError) -> Exception:
    """DiskFull for a disk without room, or a quota of it that is used up; else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The disk for uploads is full. Try again later.", retry_after_s=DISK_RETRY_AFTER_S)
    return error


class Spool:
    """One upload: `await write(chunk)` while it arrives, `await finish()`, then read `upload`.

    Leaving the context deletes everything.
    """

    def __init__(
        self, config: SpoolConfig, *, hashed: bool = True, shared: Shared | None = None, caller: str = ""
    ) -> None:
        """`hashed` keeps the SHA-256. What goes to disk is held by `caller` of what is `shared`."""
        self._config = config
        self._shared = shared
        self._caller = caller
        self._on_disk = 0
        name = secrets.token_hex(16)
        self._upload, self._clips = (_File(config.directory / f"{name}.{kind}") for kind in ("upload", "clips"))
        self._pending: list[bytes | bytearray | memoryview] = []
        self._pending_bytes = 0
        self._digest = hashlib.sha256() if hashed else None
        self._adopted_sha256 = ""
        self._ending = contextlib.AsyncExitStack()
        self.source: RemoteFile | None = None
        """where the bytes come from that are read of it; None for one that is there"""
        self.certain = True
        """whether uploads with an equal digest are equal"""
        self.received = 0

    async def __aenter__(self) -> Spool:
        self._claim(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.source is not None:
                await self._ending.aclose()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        try:
            if self._small:
                self._remove()
            else:
                await asyncio.to_thread(self._remove)
        finally:
            if self._shared is not None and self._on_disk:
                self._shared.give_back(self._caller, self._on_disk)

    @property
    def hashed(self) -> bool:
        """Whether it keeps the SHA-256."""
        return self._digest is not None

    @property
    def upload(self) -> Path:
        """The upload's bytes, once they are complete."""
        return self._upload.path

    @property
    def clips(self) -> Path:
        """Where the decoded clips go."""
        return self._clips.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hexadecimal. Raises ValueError for a spool that is not hashed."""
        if self._adopted_sha256:
            return self._adopted_sha256
        if self._digest is None:
            detail = "This spool keeps no SHA-256."
            raise ValueError(detail)
        return self._digest.hexdigest()

    def expect(self, length: int) -> None:
        """Refuse a body of `length` bytes before it arrives. Raises UploadTooLarge."""
        if length > self._config.max_upload_bytes:
            detail = f"The upload has {length} bytes; the limit is {self._config.max_upload_bytes}."
            raise UploadTooLarge(detail, limit=self._config.max_upload_bytes, actual=length)

    def expect_clips(self, length: int) -> None:
        """The clips will have at most `length` bytes."""
        if length <= WRITE_BYTES:
            self._clips.make_in_memory()

    async def reserve(self, length: int) -> None:
        """The upload will have `length` bytes, of which most may never come. Raises DiskFull."""
        self.received = length
        try:
            os.ftruncate(self._upload.descriptor, length)
        except OSError as error:
            raise disk_error(error) from error

    async def write_at(self, offset: int, data: bytes) -> None:
        """Put bytes into their place of what was reserved. Raises DiskFull."""
        self._claim(len(data))
        try:
            await asyncio.to_thread(_write_all_at, self._upload.descriptor, data, offset)
        except OSError as error:
            raise disk_error(error) from error

    def identify(self, text: str, *, certain: bool) -> None:
        """What stands for the digest of bytes that are not all there; `certain` if it tells versions of them apart."""
        self.certain = certain
        self._adopted_sha256 = hashlib.sha256(text.encode()).hexdigest()

    async def supply(self, source: RemoteFile, place: contextlib.AbstractContextManager[None]) -> None:
        """Hold what is fetched of `source`, which has a `place` among those that are read, to the end."""
        self._ending.enter_context(place)
        self._ending.push_async_callback(source.close)
        self.source = source
        await source.open()

    def adopt(self, path: Path, length: int, sha256: str) -> None:
        """Hold the `length` bytes of a file of the spool that arrived earlier; `sha256` where the spool is hashed.

        Raises DiskFull where it has to be copied.
        """
        try:
            self._upload.take(path)
        except OSError as error:
            raise disk_error(error) from error
        self.received, self._adopted_sha256 = length, sha256

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes, which are kept as they are until they are written. Raises UploadTooLarge or DiskFull."""
        self.received += len(chunk)
        self.expect(self.received)
        self._pending_bytes += len(chunk)
        if len(chunk) >= PIECE_BYTES:
            self._pending.append(chunk)
        elif self._pending and isinstance(last := self._pending[-1], bytearray):
            last += chunk
        else:
            self._pending.append(bytearray(chunk))
        if self._pending_bytes >= WRITE_BYTES:
            await self._flush()

    async def finish(self) -> int:
        """Write what is buffered; return the number of bytes received."""
        if self._small:
            self._upload.make_in_memory()
        await self._flush()
        return self.received

    @property
    def _small(self) -> bool:
        return self.received < WRITE_BYTES

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        length, self._pending_bytes = self._pending_bytes, 0
        if not self._small:
            self._claim(length)
        try:
            # A thread hop would cost more than what is done in the page cache.
            if self._small:
                self._write(pending)
            else:
                await asyncio.to_thread(self._write, pending)
        except OSError as error:
            raise disk_error(error) from error

    def _claim(self, more: int) -> None:
        """Hold `more` bytes of the disk. Raises DiskFull where they are not free, or above the caller's share."""
        least = self._config.min_free_bytes
        free = shutil.disk_usage(self._config.directory).free
        if free - more < least:
            detail = f"The spool has {free} bytes free and keeps {least} in reserve. Try again later."
            raise DiskFull(detail, limit=least, actual=free, retry_after_s=DISK_RETRY_AFTER_S)
        if self._shared is None or not more:
            return
        refused = self._shared.take(self._caller, more, free=free - least)
        if refused is not None:
            detail = (
                f"Uploads of this caller take {refused.actual} bytes of the spool; {refused.limit} is its share."
                " Try again later."
            )
            raise DiskFull(detail, limit=refused.limit, actual=refused.actual + more, retry_after_s=DISK_RETRY_AFTER_S)
        self._on_disk += more

    def _write(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        descriptor = self._upload.descriptor
        for piece in pieces:
            if self._digest is not None:
                self._digest.update(piece)
            write_all(descriptor, piece)

    def _remove(self) -> None:
        self._upload.remove()
        self._clips.remove()
