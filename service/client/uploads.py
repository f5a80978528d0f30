"""What is uploaded: a file, bytes or an open stream, read in pieces and never held as a whole."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

CHUNK_BYTES = 1 << 18
REFERENCE = "application/json"


@dataclass(frozen=True)
class VideoUrl:
    """A video that the server fetches itself, as far as it needs it."""

    url: str


Video = str | os.PathLike[str] | bytes | BinaryIO | VideoUrl
"""A path, the bytes of a video, a binary stream that is read from where it stands, or a URL."""

Report = Callable[[int, int | None], None]


class Upload:
    """The body of one request, which can be sent again from the start where its source can be rewound."""

    def __init__(self, video: Video) -> None:
        """Raises OSError where a path cannot be read."""
        self._path: Path | None = None
        self._stream: BinaryIO
        self._origin: int | None = 0
        self._started = False
        self.size: int | None
        """Bytes in all; None where the source does not tell."""
        self.content_type = "application/octet-stream"
        self._skipped = 0
        if isinstance(video, VideoUrl):
            video, self.content_type = json.dumps({"source": {"url": video.url}}).encode(), REFERENCE
        if isinstance(video, str | os.PathLike):
            self._path = Path(video)
            with self._path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
            return
        self._stream = io.BytesIO(video) if isinstance(video, bytes) else video
        if not self._stream.seekable():
            self._origin = self.size = None
            return
        self._origin = self._stream.tell()
        self.size = self._stream.seek(0, io.SEEK_END) - self._origin
        self._stream.seek(self._origin)

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent (again)."""
        return self._origin is not None or not self._started

    @property
    def is_reference(self) -> bool:
        """Whether it only names the video."""
        return self.content_type == REFERENCE

    @property
    def length(self) -> int | None:
        """Bytes of the body."""
        return None if self.size is None else self.size - self._skipped

    def rest(self, offset: int) -> Upload:
        """What comes from byte `offset` on; it reports how much of all was sent."""
        rest = copy.copy(self)
        rest._skipped = offset
        return rest

    def sha256(self) -> str:
        """The SHA-256 of all bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.chunks(lambda sent, size: None):
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, report: Report) -> Iterator[bytes]:
        """The body in pieces; `report` is called with the bytes sent so far and `size`."""
        with self._open() as file:
            reading = self._begin(file, report)
            while chunk := file.read(reading.wanted):
                yield chunk
                reading.on_sent(chunk)

    async def async_chunks(self, report: Report) -> AsyncIterator[bytes]:
        """The same, read in a thread."""
        with self._open() as file:
            reading = self._begin(file, report)
            while chunk := await to_thread.run_sync(file.read, reading.wanted):
                yield chunk
                reading.on_sent(chunk)

    def _open(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(self._stream) if self._path is None else self._path.open("rb")

    def _begin(self, file: BinaryIO, report: Report) -> _Reading:
        self._started = True
        if self._origin is not None and (self._path is None or self._skipped):
            file.seek(self._origin + self._skipped)
        return _Reading(self.size, report, self._skipped)


def named(video: Mapping[str, object]) -> Upload:
    """The body of a request that only names its video."""
    upload = Upload(json.dumps(video).encode())
    upload.content_type = REFERENCE
    return upload


class _Reading:
    def __init__(self, size: int | None, report: Report, sent: int) -> None:
        self._size = size
        self._report = report
        self._sent = sent

    @property
    def wanted(self) -> int:
        """Bytes to read next. A file that grows meanwhile must not exceed the length that was announced."""
        return CHUNK_BYTES if self._size is None else min(CHUNK_BYTES, self._size - self._sent)

    def on_sent(self, chunk: bytes) -> None:
        self._sent += len(chunk)
        self._report(self._sent, self._size)
