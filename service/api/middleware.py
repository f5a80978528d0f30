"""One plain ASGI middleware around every request: its id, its log line, its count."""

from __future__ import annotations

import contextlib
import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import unexpected
from service.telemetry import metrics, traces

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
QUIET = ("/health/live", "/health/ready", "/metrics")


class RequestContext:
    """Takes the caller's `X-Request-Id` or makes one, returns it, and keeps it on every log line of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = Headers(scope=scope)
        given = received.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        # Routes put headers here that belong on the answer whatever becomes of the request.
        headers: dict[str, str] = {}
        scope.setdefault("state", {}).update(request_id=request_id, headers=headers)
        status = 500
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                MutableHeaders(scope=message).update({"X-Request-Id": request_id, **headers})
            await send(message)

        started = time.perf_counter()
        metrics.REQUESTS_IN_PROGRESS.inc()
        quiet = scope["path"] in QUIET
        with (
            contextlib.nullcontext() if quiet else _span(scope["method"], received.get("traceparent"), request_id),
            structlog.contextvars.bound_contextvars(request_id=request_id),
        ):
            phases = scope["state"]["phases"] = traces.Phases()
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                # Starlette's own handler for these stands outside of this one: its answers have neither id nor CORS.
                if begun:
                    raise
                await unexpected(error, request_id)(scope, receive, send_with_id)
            finally:
                # A path with an id in it, or one without a route, must not become a label of its own.
                route = getattr(scope.get("route"), "path", "unmatched")
                seconds = time.perf_counter() - started
                metrics.REQUESTS_IN_PROGRESS.dec()
                metrics.REQUESTS.labels(scope["method"], route, str(status)).inc()
                metrics.REQUEST_SECONDS.labels(scope["method"], route).observe(seconds)
                if not quiet:
                    traces.annotate(f"{scope['method']} {route}", status=status)
                    log.info(
                        "request",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        ms=round(seconds * 1000, 1),
                    )
                phases.end(failed=status >= 400)


def _span(method: str, parent: str | None, request_id: str) -> contextlib.AbstractContextManager[None]:
    return traces.span(method, kind="server", parent=parent, request_id=request_id)
