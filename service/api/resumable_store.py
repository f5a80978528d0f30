"""Uploads that arrive in pieces: files in the spool that outlive their requests, and the process if the folder does.

All state is in the folder, so that processes that share it continue each other's uploads: how much has arrived is the
size of the file, and who appends holds its lock. Bytes whose checksum is not verified yet do not count: a note beside
the file says where they begin.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.api.shares import Shares
from service.api.spool import DISK_RETRY_AFTER_S, disk_error, write_all
from service.contracts import WireModel
from service.digest import file_sha256
from service.errors import (
    RETRY_AFTER_S,
    ChecksumMismatch,
    DiskFull,
    TooManyUploads,
    UnknownUpload,
    UploadLocked,
    UploadOffsetMismatch,
    UploadTooLarge,
)

UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ResumableConfig:
    """Limits of uploads that arrive in pieces. Field names equal those of `service.settings.Settings`."""

    max_resumable_bytes: int
    max_resumable_uploads: int
    resumable_spool_bytes: int
    resumable_ttl_s: float
    spool_min_free_bytes: int


class StoredUpload(WireModel):
    """What is written down of an upload when it is created."""

    id: str
    tenant: str
    """who may continue and use it"""
    length: int
    """bytes that it will have"""
    metadata: str = ""
    """`Upload-Metadata` as the client sent it"""
    sha256: str = ""
    """what the whole upload must have, in hexadecimal; empty where the client did not say"""


@dataclass(frozen=True)
class Arrived:
    """How an upload stands."""

    upload: StoredUpload
    offset: int
    """bytes that have arrived and count"""
    expires_at: float
    """Unix seconds after which it may be removed, unless more arrives"""

    @property
    def complete(self) -> bool:
        """Whether all has arrived."""
        return self.offset == self.upload.length


class ResumableStore:
    """The uploads of a folder. Its methods touch the disk, and belong in a thread."""

    def __init__(self, folder: Path, config: ResumableConfig, shares: Shares) -> None:
        self._folder = folder
        self._config = config
        self._shares = shares
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, tenant: str, length: int, metadata: str, sha256: str) -> Arrived:
        """A new upload of `length` bytes, none of which has arrived.

        Raises:
            UploadTooLarge: it would have more than `max_resumable_bytes`.
            TooManyUploads: the tenant has `max_resumable_uploads` already.
            DiskFull: so much is not free, or more than the tenant's share of it.
        """
        if length > self._config.max_resumable_bytes:
            most = self._config.max_resumable_bytes
            raise UploadTooLarge(f"The upload has {length} bytes; the limit is {most}.", limit=most, actual=length)
        with self._creating():
            self._check_room(tenant, length)
            upload = StoredUpload(
                id=secrets.token_hex(16), tenant=tenant, length=length, metadata=metadata, sha256=sha256
            )
            try:
                self._begin(upload)
            except OSError as error:
                self._erase(upload.id)
                raise disk_error(error) from error
        return self._arrived(upload)

    def _begin(self, upload: StoredUpload) -> None:
        descriptor = os.open(self.path(upload.id), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        # The note comes last: an upload without one is none.
        self._note(upload.id).write_text(upload.model_dump_json())

    def find(self, upload_id: str, may: Callable[[str], bool]) -> Arrived:
        """How an upload stands, for a caller who `may` use what is its tenant's. Raises UnknownUpload."""
        try:
            upload = StoredUpload.model_validate_json(self._note(upload_id).read_bytes())
            arrived = self._arrived(upload)
        except (OSError, ValueError):
            raise self._unknown(upload_id) from None
        if not may(upload.tenant) or arrived.expires_at < time.time():
            raise self._unknown(upload_id)
        return arrived

    def append(self, upload_id: str, may: Callable[[str], bool], offset: int, *, verify: bool) -> Appending:
        """Begin to append at `offset`; with `verify` nothing counts until `Appending.accept`.

        Raises UnknownUpload, UploadLocked, UploadOffsetMismatch.
        """
        arrived = self.find(upload_id, may)
        appending = Appending(arrived.upload, self.path(upload_id), self._unverified(upload_id))
        try:
            appending.begin(offset, verify)
        except BaseException:
            appending.close()
            raise
        return appending

    def remove(self, upload_id: str, may: Callable[[str], bool]) -> None:
        """Erase an upload. What is being read of it is read to its end. Raises UnknownUpload."""
        self.find(upload_id, may)
        self._erase(upload_id)

    def sweep(self) -> int:
        """Erase what has expired; returns how many there were."""
        erased, now = 0, time.time()
        for path in self._folder.glob("*.upload"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime + self._config.resumable_ttl_s < now:
                    self._erase(path.stem)
                    erased += 1
        return erased

    def path(self, upload_id: str) -> Path:
        """Where its bytes are."""
        return self._folder / f"{upload_id}.upload"

    def _note(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.json"

    def _unverified(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.unverified"

    def _arrived(self, upload: StoredUpload) -> Arrived:
        facts = self.path(upload.id).stat()
        offset = verified_bytes(self._unverified(upload.id), facts.st_size)
        return Arrived(upload, offset, facts.st_mtime + self._config.resumable_ttl_s)

    def _unknown(self, upload_id: str) -> UnknownUpload:
        detail = (
            f"Replica {socket.gethostname()} keeps no upload {upload_id}. It was deleted, has expired, or is with a"
            " replica that has another spool."
        )
        return UnknownUpload(detail, actual=upload_id)

    def _erase(self, upload_id: str) -> None:
        for path in (self._note(upload_id), self.path(upload_id), self._unverified(upload_id)):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _creating(self) -> Iterator[None]:
        """One at a time, among all processes: what is free is divided by what all have announced."""
        descriptor = os.open(self._folder / "creating.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_room(self, tenant: str, length: int) -> None:
        count, own, total, coming = 0, 0, 0, 0
        for arrived in self._all():
            total += arrived.upload.length
            coming += arrived.upload.length - arrived.offset
            if arrived.upload.tenant == tenant:
                count += 1
                own += arrived.upload.length
        if count >= self._config.max_resumable_uploads:
            most = self._config.max_resumable_uploads
            detail = f"The caller has {count} uploads; {most} are allowed. Delete some, or let them expire."
            raise TooManyUploads(detail, limit=most, actual=count)
        on_disk = shutil.disk_usage(self._folder).free - self._config.spool_min_free_bytes - coming
        free = max(0, min(on_disk, self._config.resumable_spool_bytes - total))
        rule = self._shares.rule()
        if rule.allows(own, free, length):
            return
        most = max(0, rule.most(own, free) - own)
        detail = f"The upload has {length} bytes; {most} of the spool are left for this caller. Try again later."
        raise DiskFull(detail, limit=most, actual=length, retry_after_s=DISK_RETRY_AFTER_S)

    def _all(self) -> Iterator[Arrived]:
        for note in self._folder.glob("*.json"):
            # Erased meanwhile, or never finished.
            with contextlib.suppress(OSError, ValueError):
                yield self._arrived(StoredUpload.model_validate_json(note.read_bytes()))


class Appending:
    """Bytes on their way into one upload, which no other process appends to meanwhile. Close it in the end."""

    def __init__(self, upload: StoredUpload, path: Path, unverified: Path) -> None:
        self.upload = upload
        self._path = path
        self._unverified = unverified
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._verify = False
        self.offset = 0
        """bytes that have arrived, verified or not"""

    def begin(self, offset: int, verify: bool) -> None:
        """Take the lock and drop what an earlier, broken request left unverified."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = f"Another request is sending upload {self.upload.id}. Ask for its offset, and try again later."
            raise UploadLocked(detail, retry_after_s=RETRY_AFTER_S) from None
        size = os.fstat(self._descriptor).st_size
        self.offset = verified_bytes(self._unverified, size)
        if self.offset < size:
            os.ftruncate(self._descriptor, self.offset)
        self._unverified.unlink(missing_ok=True)
        if offset != self.offset:
            detail = f"The request goes on at byte {offset}; {self.offset} bytes have arrived. Go on there."
            raise UploadOffsetMismatch(detail, limit=self.offset, actual=offset)
        if verify:
            try:
                self._unverified.write_text(str(offset))
            except OSError as error:
                raise disk_error(error) from error
            self._verify = True
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def check(self, more: int) -> None:
        """Refuse bytes beyond the announced length. Raises UploadTooLarge."""
        if self.offset + more > self.upload.length:
            detail = f"{self.offset + more} bytes were sent of an upload that has {self.upload.length}."
            raise UploadTooLarge(detail, limit=self.upload.length, actual=self.offset + more)

    def write(self, data: bytes | bytearray) -> None:
        """Append. Raises DiskFull."""
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            # Of what a full disk cut off, that which arrived counts.
            self.offset = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def accept(self) -> None:
        """What was appended has the right checksum: it counts."""
        self._unverified.unlink(missing_ok=True)
        self._verify = False

    def check_whole(self) -> None:
        """Compare a complete upload with the digest announced for it; erases its bytes if they differ.

        Raises ChecksumMismatch.
        """
        if not self.upload.sha256 or self.offset < self.upload.length:
            return
        found = file_sha256(self._path)
        if found != self.upload.sha256:
            os.ftruncate(self._descriptor, 0)
            detail = f"The upload has SHA-256 {found}; {self.upload.sha256} was announced. Send it from the start."
            raise ChecksumMismatch(detail, limit=self.upload.sha256, actual=found)

    def close(self) -> None:
        """Give up the lock; what is not verified is dropped."""
        if self._verify:
            os.ftruncate(self._descriptor, verified_bytes(self._unverified, self.offset))
            self._unverified.unlink(missing_ok=True)
        os.close(self._descriptor)


def verified_bytes(note: Path, size: int) -> int:
    """How many of `size` bytes count, by the note beside the file."""
    try:
        return min(size, int(note.read_text()))
    except (OSError, ValueError):
        return size
