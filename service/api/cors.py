"""What pages of other origins may send and read (CORS). Where no origin is allowed, none of this is sent."""

from __future__ import annotations

from typing import Any

from service.api import tus

ANY = "*"

REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "traceparent",
    "tracestate",
    "X-Deadline-S",
    "X-Request-Id",
    *tus.REQUEST_HEADERS,
)
ANSWER_HEADERS = (
    "Content-Disposition",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Cache",
    "X-Request-Id",
    *tus.ANSWER_HEADERS,
)


def middleware_options(origins: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of Starlette's `CORSMiddleware`."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "HEAD", "POST", "PATCH", "DELETE"],
        "allow_headers": list(REQUEST_HEADERS),
        "expose_headers": list(ANSWER_HEADERS),
    }


def answer_headers(origin: str | None, origins: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is given before the application, and its middleware, hears of the request."""
    exposed = (b"access-control-expose-headers", ", ".join(ANSWER_HEADERS).encode())
    if ANY in origins:
        return [(b"access-control-allow-origin", ANY.encode()), exposed]
    if origin is None or origin not in origins:
        return []
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), exposed]
