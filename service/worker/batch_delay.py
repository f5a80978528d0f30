"""When the next batch begins: at once, unless more clips are sure to come and wait for the same cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from service.queue.clip_entries import ClipEntry


class BatchDelay:
    """While uploads queue to be decoded, a worker lets `pause_s` pass from batch to batch, so that batches grow.

    Such uploads come soon and have waited already, and where the worker shares the cores with their decoding, which
    most small machines do, nothing stands still meanwhile: clips that go together only take less of them. Whoever is
    alone with a worker never waits, and after a full batch nobody does.
    """

    def __init__(self, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock = clock
        self._next_at = 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the next batch may begin."""
        return max(0.0, self._next_at - self._clock())

    def record(self, entries: Sequence[ClipEntry], most: int) -> None:
        """A batch of `entries` begins, of at most `most`."""
        wait = len(entries) < most and any(entry.more_coming for entry in entries)
        self._next_at = self._clock() + self._pause_s if wait else 0.0
