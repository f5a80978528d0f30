"""Whose turn it is: how a worker shares itself between the classes of jobs and between routes."""

from __future__ import annotations

from collections.abc import Sequence

from service.contracts import JobClass


class Turns:
    """While both classes wait, `weight` interactive batches go before each bulk one. Routes take turns in each class.

    A batch holds one class only: clips of a long film in the same batch would make a short clip wait for them.
    """

    def __init__(self, weight: int) -> None:
        self._weight = weight
        self._streak = 0
        self._last: str | None = None

    def order(self, routes: Sequence[str]) -> list[tuple[JobClass, str]]:
        """In which order to look for the next batch."""
        classes = (JobClass.INTERACTIVE, JobClass.BULK)
        if self._streak >= self._weight:
            classes = classes[::-1]
        first = routes.index(self._last) + 1 if self._last in routes else 0
        return [(job_class, route) for job_class in classes for route in (*routes[first:], *routes[:first])]

    def took(self, job_class: JobClass, route: str) -> None:
        """A batch of this class and route is being scored."""
        self._streak = 0 if job_class is JobClass.BULK else self._streak + 1
        self._last = route
