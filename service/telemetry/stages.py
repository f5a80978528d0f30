"""A stage of a request: measured as a metric and traced as a span, under one name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.telemetry import metrics, traces


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Observe the time spent inside, also when it ends in an error."""
    with traces.span(name), metrics.stage(name):
        yield
