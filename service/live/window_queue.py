"""The windows of one session on their way to their answers: scored a few at a time, told in order, dropped when late.

Where windows come faster than they are scored, the oldest that is not being scored is dropped: what is seen now counts
more than what was seen a while ago, and the delay stays bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from service.contracts import SampledWindow, WindowResult
from service.errors import InternalError, VidtrError

AT_A_TIME = 4
"""windows of one session that are being scored"""
TOO_SLOW = "engine_slow"

Score = Callable[[SampledWindow, bytes], Awaitable[WindowResult]]
"""the answer for a window with these clips; raises VidtrError where there will be none"""


@dataclass
class Entry:
    """A window, and what became of it: a `result`, or the reason `why` there is none."""

    number: int
    window: SampledWindow
    arrived_at: float
    clips: bytes | None
    result: WindowResult | None = None
    why: str = ""
    _scoring: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def resolved(self) -> bool:
        """Whether it is known what became of it."""
        return self.result is not None or bool(self.why)


class WindowQueue:
    """Scores windows by `score`, and gives them back in their order. `most_waiting` is how many may wait for that."""

    def __init__(self, score: Score, most_waiting: int) -> None:
        self._score = score
        self._most_waiting = most_waiting
        self._entries: deque[Entry] = deque()
        self._scoring = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many windows have clips here that are not being scored."""
        return sum(entry.clips is not None and entry._scoring is None for entry in self._entries)

    def offer(self, number: int, window: SampledWindow, clips: bytes, arrived_at: float) -> None:
        """Another window, which is scored or dropped."""
        self._entries.append(Entry(number, window, arrived_at, clips))
        self._start()
        if self.waiting > self._most_waiting:
            oldest = next(entry for entry in self._entries if entry.clips is not None and entry._scoring is None)
            self._drop(oldest, TOO_SLOW)

    def note_gap(self, number: int, window: SampledWindow, why: str) -> None:
        """Between this and the last window are others that were never seen."""
        self._entries.append(Entry(number, window, 0.0, None, why=why))
        self._changed.set()

    def close(self, why: str = "") -> None:
        """No more windows come; those that wait are dropped where there is a reason `why`."""
        self._closed = True
        if why:
            for entry in self._entries:
                if entry.clips is not None and entry._scoring is None:
                    self._drop(entry, why)
        self._changed.set()

    async def next(self) -> list[Entry]:
        """The next window in order that has an answer, or all dropped ones in a row for one reason; none at the end."""
        while not (self._entries and self._entries[0].resolved):
            if self._closed and not self._entries:
                return []
            self._changed.clear()
            await self._changed.wait()
        found = [self._entries.popleft()]
        while found[0].why and self._entries and self._entries[0].why == found[0].why:
            found.append(self._entries.popleft())
        return found

    def _drop(self, entry: Entry, why: str) -> None:
        entry.clips, entry.why = None, why
        self._changed.set()

    def _start(self) -> None:
        for entry in self._entries:
            if self._scoring >= AT_A_TIME:
                return
            if entry.clips is not None and entry._scoring is None:
                self._scoring += 1
                entry._scoring = asyncio.create_task(self._scored(entry, entry.clips))

    async def _scored(self, entry: Entry, clips: bytes) -> None:
        # Never cancelled, for it uses Redis; it ends with the window's deadline.
        try:
            entry.result = await self._score(entry.window, clips)
        except VidtrError as error:
            entry.why = error.code
        except Exception:
            entry.why = InternalError.code
            raise
        finally:
            entry.clips = None
            self._scoring -= 1
            self._start()
            self._changed.set()
