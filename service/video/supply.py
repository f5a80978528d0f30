"""A file whose bytes come when they are read: the sandbox worker asks for them by the connection that tasks come by."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from typing import IO, Protocol, cast

BLOCK_BYTES = 1 << 16
# A request is told from a report by its one field, and its size.
_LARGEST_REQUEST = 128
_FIELD = "want"


class Supply(Protocol):
    """What has the bytes of a file fetched. It raises VidtrError where it cannot."""

    @property
    def size(self) -> int | None:
        """Bytes of the whole file; None where all of them are there."""

    async def fetch(self, offset: int, length: int) -> None:
        """Have these bytes in the file."""


def request_of(message: bytes, size: int) -> tuple[int, int] | None:
    """Offset and length of what a sandbox worker asks for; None for another message.

    Raises ValueError for a request that no reader of the file makes.
    """
    if len(message) > _LARGEST_REQUEST:
        return None
    try:
        said = json.loads(message)
    except ValueError:
        return None
    if not isinstance(said, dict) or set(said) != {_FIELD}:
        return None
    match said[_FIELD]:
        case [int(offset), int(length)] if 0 <= offset < size and 0 < length <= size - offset:
            return offset, length
    raise ValueError(f"no part of the file: {said[_FIELD]!r}")


class SuppliedFile:
    """An open file of `size` bytes in the place of a path, of which those are there that were asked for."""

    def __init__(self, descriptor: int, size: int, ask: Callable[[dict[str, list[int]]], None]) -> None:
        """`ask` sends a request, and returns once it is fulfilled."""
        self.descriptor = descriptor
        self.size = size
        self._ask = ask
        self._have = bytearray(-(-size // BLOCK_BYTES))

    @property
    def complete(self) -> bool:
        """Whether every byte is there."""
        return all(self._have)

    def open(self, mode: str) -> IO[bytes]:
        """The file from its beginning, for reading."""
        return cast(IO[bytes], io.BufferedReader(_Reading(self), BLOCK_BYTES // 2))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, once they are there."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        first, last = offset // BLOCK_BYTES, (offset + length - 1) // BLOCK_BYTES
        missing = [block for block in range(first, last + 1) if not self._have[block]]
        if missing:
            begin = missing[0] * BLOCK_BYTES
            self._ask({_FIELD: [begin, min(self.size, (missing[-1] + 1) * BLOCK_BYTES) - begin]})
            for block in missing:
                self._have[block] = True
        return os.pread(self.descriptor, length, offset)


class _Reading(io.RawIOBase):
    def __init__(self, file: SuppliedFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError("a place before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
