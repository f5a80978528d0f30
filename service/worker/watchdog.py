"""Progress of a worker's loops, for its liveness probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Loop = Literal["work", "heartbeat", "upkeep"]


class Watchdog:
    """When each loop was last seen to move. Read by a thread of its own, which answers even when the loops hang.

    Waiting for an absent Redis or Triton counts as progress: a restart of the worker would not bring those back.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        started = clock()
        self._touched: dict[Loop, float] = {"work": started, "heartbeat": started, "upkeep": started}

    def touch(self, loop: Loop) -> None:
        """The loop moves."""
        self._touched[loop] = self._clock()

    def stalled(self) -> str | None:
        """Which loop has not moved for longer than the limit, and for how long; None when all move."""
        loop, last = min(self._touched.items(), key=lambda item: item[1])
        silent_s = self._clock() - last
        if silent_s <= self._limit_s:
            return None
        return f"the {loop} loop has not moved for {silent_s:.0f} s, more than {self._limit_s:g} s"
