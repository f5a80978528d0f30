"""Progress of a worker's loops, for its liveness probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Loop = Literal["work", "heartbeat", "upkeep"]


class Watchdog:
    """When each loop was last seen to move. Read by a thread of its own, which answers even when the loops hang.

    Waiting for an absent Redis or Triton counts as progress: a restart of the worker would not bring those back.
    Each batch in flight is a part of the work loop, which has to move for itself.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        started = clock()
        self._touched: dict[tuple[Loop, int], float] = {(loop, 0): started for loop in ("work", "heartbeat", "upkeep")}

    def touch(self, loop: Loop, part: int = 0) -> None:
        """The loop moves, or one part of it."""
        self._touched[loop, part] = self._clock()

    def rest(self, loop: Loop, part: int = 0) -> None:
        """The part has ended, or waits for other parts: until it is touched again it need not move."""
        self._touched.pop((loop, part), None)

    def stalled(self) -> str | None:
        """Which loop has not moved for longer than the limit, and for how long; None when all move."""
        (loop, _), last = min(self._touched.copy().items(), key=lambda item: item[1])
        silent_s = self._clock() - last
        if silent_s <= self._limit_s:
            return None
        return f"the {loop} loop has not moved for {silent_s:.0f} s, more than {self._limit_s:g} s"
