"""Ends a local Triton whose models' processes stood still while they had a batch.

Triton's Python backend gives up a batch after one second in which it heard nothing of the model's process, as when the
machine was asleep, but takes what that process says later for the answer to the next batch: from then on callers get
each other's labels. The process itself can tell that it stood still, and ends the server before it answers.

Copied beside the backends that stand in for Triton's own; like them it imports nothing of the service.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

GAP_S = 0.7
"""A process that stood still for less is not given up: it says each 0.3 s that it lives, and is asked after 1 s."""
GIVEN_UP_S = 0.9
"""A batch that was answered sooner, wherever the process stood still, had not been given up either."""
_BEAT_S = 0.1
# A batch was waiting, and the server with it, where a gap ended only just before the batch was taken.
_JUST_S = 0.05


def read_clocks() -> tuple[float, float]:
    """Seconds on the two clocks that go on where the machine is asleep, one of which somebody may set.

    The server waits by the latter, so that setting it forward makes it give up too.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def end_server(server: int, gap_s: float) -> None:
    """Kill the process `server` if it still is this one's parent, then end this one."""
    if os.getppid() == server:
        sys.stderr.write(f"vidtr: a model's process stood still for {gap_s:.1f} s while it had a batch: Triton would\n")
        sys.stderr.write("give its answers to other requests from now on, and is ended\n")
        sys.stderr.flush()
        os.kill(server, signal.SIGKILL)
    os._exit(1)


class StallGuard:
    """A context in which each batch is computed; at its end the server is ended where it may have given the batch up.

    `end` gets how long the process stood still, in seconds.
    """

    def __init__(
        self,
        clocks: Callable[[], tuple[float, float]] = read_clocks,
        end: Callable[[float], None] | None = None,
    ) -> None:
        parent = os.getppid()
        self._clocks = clocks
        self._end = end or (lambda gap_s: end_server(parent, gap_s))
        self._beaten = self._begun = self._gap_ended = clocks()
        self._gap_s = 0.0

    def start(self) -> None:
        """Let a thread beat from now on."""
        threading.Thread(target=self._run, name="stalls", daemon=True).start()

    def beat(self) -> None:
        """Measure the gap since the last beat."""
        now = self._clocks()
        gap_s = _between(self._beaten, now)
        self._beaten = now
        if gap_s > max(self._gap_s, GAP_S):
            self._gap_s, self._gap_ended = gap_s, now

    def _run(self) -> None:
        while True:
            time.sleep(_BEAT_S)
            self.beat()

    def __enter__(self) -> None:
        now = self._clocks()
        self._begun = now
        waited_s = _between(self._beaten, now)
        if waited_s > GAP_S:
            self._begun = self._beaten
        elif self._gap_s and _between(self._gap_ended, now) < _JUST_S:
            self._begun = _earlier(self._gap_ended, self._gap_s)
        else:
            self._gap_s = 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.beat()
        if self._gap_s and _between(self._begun, self._clocks()) > GIVEN_UP_S:
            self._end(self._gap_s)


def _between(then: tuple[float, float], now: tuple[float, float]) -> float:
    return max(after - before for before, after in zip(then, now, strict=True))


def _earlier(clocks: tuple[float, float], seconds: float) -> tuple[float, float]:
    return clocks[0] - seconds, clocks[1] - seconds
