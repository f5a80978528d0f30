"""The delay between batches while more clips are sure to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from service.queue.clip_entries import ClipEntry


class BatchDelay:
    """While uploads wait to be decoded, `pause_s` pass between the starts of two batches, so that batches grow.

    On small machines decoding uses the same cores as the worker, so they are not idle during the delay, and clips that
    are scored together need less of them. There is no delay while no upload waits for decoding, nor after a full batch.
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
