"""The bytes of a stream between their sender and the decoder: a bounded number, in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Inbox:
    """Holds at most `limit` bytes and one piece more; a sender of more waits.

    Attributes:
        received: bytes that came in all.
        reached_at: when the last byte that went to the decoder had come, on the monotonic clock.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._ended = False
        self._changed = asyncio.Event()
        self.received = 0
        self.reached_at = time.monotonic()

    @property
    def held(self) -> int:
        """Bytes that wait for the decoder."""
        return self._held

    async def put(self, piece: bytes) -> None:
        """Take a piece, once there is room."""
        while self._held >= self._limit and not self._ended:
            await self._change()
        if piece and not self._ended:
            self._pieces.append((time.monotonic(), piece))
            self._held += len(piece)
            self.received += len(piece)
            self._tell()

    def end(self) -> None:
        """Nothing more comes; what is held still goes to the decoder."""
        self._ended = True
        self._tell()

    async def get(self, most: int) -> bytes:
        """At most so many bytes, as soon as there are some; none at the end."""
        while not self._pieces:
            if self._ended:
                return b""
            await self._change()
        self.reached_at, piece = self._pieces.popleft()
        if len(piece) > most:
            self._pieces.appendleft((self.reached_at, piece[most:]))
            piece = piece[:most]
        self._held -= len(piece)
        self._tell()
        return piece

    def _tell(self) -> None:
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    async def _change(self) -> None:
        await self._changed.wait()
