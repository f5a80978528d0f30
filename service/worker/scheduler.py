"""Shares the time of a worker between the classes of jobs and between routes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from service.contracts import JobClass

# How long after an interactive batch the next one is expected.
EXPECTED_S = 5.0


class ClassScheduler:
    """While both classes wait, `weight` interactive batches go before each bulk one. Routes alternate in each class.

    A batch holds one class only: clips of a long film in the same batch would make a short clip wait for them. Nor can
    a batch that runs be stopped for one: while interactive clips come, those of bulk take `bulk_batch_s` at most.
    """

    def __init__(self, weight: int, bulk_batch_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """With a `bulk_batch_s` of 0 all batches may be full."""
        self._weight = weight
        self._bulk_batch_s = bulk_batch_s
        self._clock = clock
        self._interactive_at: float | None = None
        self._streak = 0
        self._last: str | None = None

    def most(self, job_class: JobClass, most: int, per_s: float | None) -> int:
        """Clips of the next batch of a class, of `most`, where the worker scores `per_s` clips a second."""
        if job_class is JobClass.INTERACTIVE or per_s is None or not self._bulk_batch_s or not self._expected():
            return most
        return min(most, max(1, int(per_s * self._bulk_batch_s)))

    def _expected(self) -> bool:
        return self._interactive_at is not None and self._clock() < self._interactive_at + EXPECTED_S

    def order(self, routes: Sequence[str]) -> list[tuple[JobClass, str]]:
        """In which order to look for the next batch."""
        classes = (JobClass.INTERACTIVE, JobClass.BULK)
        if self._streak >= self._weight:
            classes = classes[::-1]
        first = routes.index(self._last) + 1 if self._last in routes else 0
        return [(job_class, route) for job_class in classes for route in (*routes[first:], *routes[:first])]

    def record(self, job_class: JobClass, route: str) -> None:
        """A batch of this class and route is being scored."""
        if job_class is JobClass.BULK:
            self._streak = 0
        else:
            self._streak += 1
            self._interactive_at = self._clock()
        self._last = route
