"""The circuit breaker in front of the backend."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.contracts import BreakerState


class Breaker:
    """Opens after `failures` failures in a row; `open_s` seconds later one attempt may show that all is well again.

    While it is open the worker takes no clips, and the api refuses uploads at once instead of letting them wait.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._counted_at = float("-inf")

    @property
    def now(self) -> float:
        """The time by which attempts begin."""
        return self._clock()

    @property
    def state(self) -> BreakerState:
        """`closed`: work flows. `open`: it does not. `half_open`: the next attempt decides."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self.retry_in_s <= 0 else "open"

    @property
    def retry_in_s(self) -> float:
        """Seconds until an attempt is allowed; 0 when it is now."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._open_s - self._clock())

    def succeeded(self) -> None:
        """The backend did its work."""
        self._failures = 0
        self._opened_at = None

    def failed(self, began: float | None = None) -> None:
        """The backend was unavailable. In the half-open state one failure opens the breaker again.

        `began` is when an attempt began, by `now`. Of attempts that were in flight together only the first one to fail
        counts: one outage is one failure, however many batches it meets.
        """
        if began is not None:
            if began < self._counted_at:
                return
            self._counted_at = self._clock()
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at = self._clock()

    def probe(self) -> None:
        """The backend may be back: let the next attempt decide now."""
        if self._opened_at is not None:
            self._opened_at = self._clock() - self._open_s
