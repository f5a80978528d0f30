"""The clips that a sandbox worker has left, for the process that takes them over."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from service.errors import DecoderCrash


class HeldClips:
    """The bytes of a file of clips, read where they are sliced; a context manager that closes the file.

    Read, never mapped: the sandbox worker that wrote the file may hold it still, and if it could make it shorter,
    SIGBUS would end a process that touched a mapping of it. A read of what is gone is an error of this one upload.
    Each piece is a copy, so nothing changes it afterwards, and only the pieces in use take memory.
    """

    def __init__(self, path: Path, size: int) -> None:
        """`size` is that of all clips, in bytes."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = size

    def __enter__(self) -> HeldClips:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, piece: slice, /) -> bytes:
        """The bytes of a slice without a step. Raises DecoderCrash where the file has become shorter."""
        start, stop, _ = piece.indices(self._size)
        read = os.pread(self._descriptor, stop - start, start)
        while len(read) < stop - start:
            more = os.pread(self._descriptor, stop - start - len(read), start + len(read))
            if not more:
                raise DecoderCrash("The decode process took back clips that it had reported.")
            read += more
        return read
