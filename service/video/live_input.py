"""A stream that has no end yet, as a sandbox worker reads it: what comes next, and never what was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CHUNK_BYTES = 1 << 16
"""the most that is asked for at a time"""
FETCH = "next"


class LiveInput:
    """Bytes as they arrive, for a demuxer that cannot seek. `read` returns fewer bytes than asked rather than wait.

    Attributes:
        late: whether the last bytes that came had waited too long.
    """

    def __init__(self, ask: Callable[[dict[str, Any]], tuple[bytes, bool]]) -> None:
        """`ask` sends a request and returns what the other end answers: no bytes at the end of the stream."""
        self._ask = ask
        self._held = b""
        self._ended = False
        self.late = False
        self.received = 0
        """bytes that have come"""

    def head(self, size: int) -> bytes:
        """The first `size` bytes, or all where there are fewer; they are read again."""
        while len(self._held) < size and (more := self._next(size - len(self._held))):
            self._held += more
        return self._held[:size]

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and none only at the end."""
        if self._held:
            found, self._held = self._held[:size], self._held[size:]
            return found
        return self._next(size)

    def readable(self) -> bool:
        """That it can be read; FFmpeg learns from the lack of a `seek` that it cannot be sought."""
        return True

    def _next(self, size: int) -> bytes:
        if self._ended or size <= 0:
            return b""
        found, self.late = self._ask({FETCH: min(size, CHUNK_BYTES)})
        self._ended = not found
        self.received += len(found)
        return found
