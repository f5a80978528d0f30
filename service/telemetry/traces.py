"""OpenTelemetry spans, off unless `configure` was called with the extra `tracing` installed.

Context travels as a W3C `traceparent` string: in the headers of a request, in the stream entries of its clips, in the
gRPC metadata of a call to Triton. While tracing is off every function here does next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import service

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

Value = str | int | float | bool

_tracer: Tracer | None = None


def configure(role: str, endpoint: str, sample_ratio: float) -> None:
    """Send spans to the OTLP/HTTP `endpoint`; `sample_ratio` of the traces that begin here, all that a caller sampled.

    Raises ModuleNotFoundError where the extra `tracing` is not installed.
    """
    global _tracer
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": f"vidtr-{role}", "service.version": service.__version__})
    # Not the global provider: libraries that look for it would add unwanted spans.
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    _tracer = provider.get_tracer("vidtr", service.__version__)


@contextmanager
def span(
    name: str,
    *,
    kind: Literal["internal", "server", "client", "consumer"] = "internal",
    parent: str | None = None,
    links: Sequence[str] = (),
    **attributes: Value,
) -> Iterator[None]:
    """A span around the block, current inside it.

    `parent` and `links` are `traceparent` strings; without a parent it is a child of the current span.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind.upper()],
        attributes={f"vidtr.{key}": value for key, value in attributes.items()},
        links=_links(links),
    ):
        yield


def record(
    name: str, started: float, ended: float, *, parent: str, links: Sequence[str] = (), **attributes: Value
) -> None:
    """A span that is over already; times are Unix seconds. Nothing happens where `parent` is empty."""
    if _tracer is None or not parent:
        return
    made = _tracer.start_span(
        name,
        context=_context(parent),
        start_time=int(started * 1e9),
        attributes={f"vidtr.{key}": value for key, value in attributes.items()},
        links=_links(links),
    )
    made.end(int(ended * 1e9))


class Phases:
    """Spans below the current one that follow each other without a gap: each begins where the one before ends.

    So the phases of a request add up to it, whatever happens between the steps of its way.
    """

    def __init__(self) -> None:
        self._root: Span | None = None
        self._current: Span | None = None
        if _tracer is not None:
            from opentelemetry.trace import get_current_span

            self._root = get_current_span()

    def begin(self, name: str) -> None:
        """End the phase before, and begin one; the first begins where the span above did."""
        if _tracer is None or self._root is None:
            return
        from opentelemetry.trace import set_span_in_context

        now = time.time_ns()
        started = now if self._current is not None else getattr(self._root, "start_time", now)
        self._finish(now)
        self._current = _tracer.start_span(name, context=set_span_in_context(self._root), start_time=started)

    def end(self, *, failed: bool = False) -> None:
        """End the last phase; `failed` marks it as the one in which the request went wrong."""
        if failed and self._current is not None:
            from opentelemetry.trace import StatusCode

            self._current.set_status(StatusCode.ERROR)
        self._finish(time.time_ns())

    def _finish(self, now: int) -> None:
        if self._current is not None:
            self._current.end(now)
            self._current = None


def annotate(name: str | None = None, **attributes: Value) -> None:
    """Rename the current span, or add attributes to it."""
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    current = get_current_span()
    if name is not None:
        current.update_name(name)
    for key, value in attributes.items():
        current.set_attribute(f"vidtr.{key}", value)


def traceparent() -> str:
    """The current span's context, to be carried elsewhere; empty while there is none."""
    return headers().get("traceparent", "")


def headers() -> dict[str, str]:
    """The current span's context as headers of a call."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def add_trace_id(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: `trace_id` on every line that is logged inside a span."""
    context = headers().get("traceparent")
    if context:
        event["trace_id"] = context.split("-")[1]
    return event


def _context(parent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: Mapping[str, str] = {"traceparent": parent}
    # Based on an empty context, not on the current one: an unreadable parent begins a new trace.
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _links(parents: Sequence[str]) -> list[Any]:
    from opentelemetry.trace import Link, get_current_span

    found = [get_current_span(_context(parent)).get_span_context() for parent in dict.fromkeys(parents) if parent]
    return [Link(context) for context in found if context.is_valid]
