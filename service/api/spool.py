"""Uploads on disk: each under a name that nobody can guess, bounded, and gone when its request is done."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from service.errors import DiskFull, UploadTooLarge

WRITE_BYTES = 1 << 20
RETRY_AFTER_S = 10.0


@dataclass(frozen=True)
class SpoolConfig:
    """Where uploads go and how large they may be, in bytes."""

    directory: Path
    max_upload_bytes: int
    min_free_bytes: int


class Spool:
    """One upload: `await write(chunk)` while it arrives, then read `upload`; leaving the context deletes everything."""

    def __init__(self, config: SpoolConfig) -> None:
        self._config = config
        self._name = secrets.token_hex(16)
        self._pending = bytearray()
        self._digest = hashlib.sha256()
        self.received = 0

    async def __aenter__(self) -> Spool:
        try:
            self._open()
        except OSError as error:
            raise self._disk_error(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._small:
            self._remove()
        else:
            await asyncio.to_thread(self._remove)

    @property
    def upload(self) -> Path:
        """The upload's bytes."""
        return self._config.directory / f"{self._name}.upload"

    @property
    def clips(self) -> Path:
        """Where the decoded clips go."""
        return self._config.directory / f"{self._name}.clips"

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def expect(self, length: int) -> None:
        """Refuse a body of `length` bytes before it arrives. Raises UploadTooLarge."""
        if length > self._config.max_upload_bytes:
            detail = f"the upload has {length} bytes; at most {self._config.max_upload_bytes} are accepted"
            raise UploadTooLarge(detail, limit=self._config.max_upload_bytes, actual=length)

    async def write(self, chunk: bytes) -> None:
        """Append bytes. Raises UploadTooLarge or DiskFull."""
        self.received += len(chunk)
        self.expect(self.received)
        self._pending += chunk
        if len(self._pending) >= WRITE_BYTES:
            await self._flush()

    async def finish(self) -> int:
        """Write what is buffered; return the number of bytes received."""
        await self._flush()
        return self.received

    @property
    def _small(self) -> bool:
        # It fits one buffer: a thread hop would cost more than what is done in the page cache.
        return self.received <= WRITE_BYTES

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        try:
            if self._small:
                self._write(pending)
            else:
                await asyncio.to_thread(self._write, pending)
        except OSError as error:
            raise self._disk_error(error) from error

    def _open(self) -> None:
        free = shutil.disk_usage(self._config.directory).free
        if free < self._config.min_free_bytes:
            detail = f"the spool has {free} bytes free and keeps {self._config.min_free_bytes} in reserve"
            raise DiskFull(detail, limit=self._config.min_free_bytes, actual=free, retry_after_s=RETRY_AFTER_S)
        descriptor = os.open(self.upload, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)

    def _write(self, data: bytearray) -> None:
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _remove(self) -> None:
        self._file.close()
        for path in (self.upload, self.clips):
            with contextlib.suppress(OSError):
                path.unlink()

    def _disk_error(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull("the spool is full", retry_after_s=RETRY_AFTER_S)
        return error
