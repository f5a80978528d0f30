"""Errors as RFC 9457 problem+json: the one table from error codes to HTTP statuses, and the handlers that use it."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from service.errors import (
    InternalError,
    InvalidOption,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    VidtrError,
    sentence,
)
from service.telemetry import metrics

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    "malformed_request": 400,
    "unauthorized": 401,
    "cross_site_refused": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_job": 404,
    "unknown_dead_letter": 404,
    "method_not_allowed": 405,
    "upload_timeout": 408,
    "head_timeout": 408,
    "idempotency_in_progress": 409,
    "job_deleted": 410,
    "result_expired": 410,
    "upload_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "container_not_allowed": 415,
    "codec_not_allowed": 415,
    "host_not_allowed": 421,
    "invalid_option": 422,
    "idempotency_key_reused": 422,
    "empty_upload": 422,
    "undecodable": 422,
    "no_video_stream": 422,
    "video_too_short": 422,
    "duration_limit": 422,
    "pixel_limit": 422,
    "packet_limit": 422,
    "stream_limit": 422,
    "frame_limit": 422,
    "decode_timeout": 422,
    "decode_cpu_limit": 422,
    "decode_memory_limit": 422,
    "decoder_crash": 422,
    "too_many_clips": 422,
    "quota_exceeded": 429,
    "too_many_crashes": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "invalid_keys": 500,
    "sandbox_missing": 500,
    "partitions_changed": 500,
    "backend_failed": 500,
    "too_many_connections": 503,
    "queue_full": 503,
    "queue_unavailable": 503,
    "backend_unavailable": 503,
    "disk_full": 503,
    "draining": 503,
    "deadline_exceeded": 504,
}

# RFC 9110's reason phrases. Those of `http.HTTPStatus` differ between versions of Python.
TITLES: dict[int, str] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Problem(BaseModel):
    """Body of every error answer (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:vidtr:error:video_too_short"])
    title: str = Field(description="the status in words", examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(description="stable name of the error", examples=["video_too_short"])
    detail: str = Field(
        description="what is wrong, for a person",
        examples=["2 different frames can be sampled from this video; at least 4 are needed."],
    )
    request_id: str = Field(examples=["0f9a52f7c1d94f1c8c2f2f5d7d1f8a35"])
    limit: int | float | str | None = Field(None, description="the bound that was hit", examples=[4])
    actual: int | float | str | None = Field(None, description="the value that hit it", examples=[2])


def problem_body(error: VidtrError, request_id: str) -> dict[str, Any]:
    """The problem document for `error`, which is counted."""
    status = STATUS[error.code]
    body: dict[str, Any] = {
        "type": f"urn:vidtr:error:{error.code}",
        "title": TITLES[status],
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }
    if error.limit is not None:
        body["limit"] = error.limit
    if error.actual is not None:
        body["actual"] = error.actual
    metrics.ERRORS.labels(error.code).inc()
    return body


def problem(error: VidtrError, request_id: str) -> JSONResponse:
    """The answer for `error`."""
    body = problem_body(error, request_id)
    status = body["status"]
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(retry_after(error.retry_after_s))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def unexpected(error: Exception, request_id: str) -> JSONResponse:
    """The answer for an unexpected exception; its cause goes to the log alone."""
    log.error("unhandled_error", exc_info=error)
    return problem(InternalError("The service failed. Its log has the cause under this request id."), request_id)


def retry_after(seconds: float) -> int:
    """Whole seconds, as HTTP wants them; never "at once"."""
    return max(1, math.ceil(seconds))


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return problem(cast(VidtrError, error), request.state.request_id)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        first = cast(RequestValidationError, error).errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "request"
        detail = f"Option {where!r} is not valid: {sentence(first['msg'])}"
        actual = first.get("input")
        return problem(
            InvalidOption(detail, actual=actual if isinstance(actual, int | float | str) else None),
            request.state.request_id,
        )

    async def http(request: Request, raised: Exception) -> JSONResponse:
        error = cast(HTTPException, raised)
        known: VidtrError
        if error.status_code == HTTPStatus.NOT_FOUND:
            known = NotFound(f"There is no resource at {request.url.path}.")
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            known = MethodNotAllowed(f"{request.method} is not allowed at {request.url.path}.")
        else:
            known = MalformedRequest(sentence(str(error.detail)))
        answer = problem(known, request.state.request_id)
        for name, value in (error.headers or {}).items():
            answer.headers[name] = value
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
            answer.headers["Allow"] = ", ".join(methods)
        return answer

    app.add_exception_handler(VidtrError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _methods(request: Request) -> list[str]:
    """What may be sent to the request's path: the router itself names the methods of the first route that fits."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, {}))


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the statuses that these error codes have."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: {
            "description": f"{TITLES[status]}: {', '.join(f'`{code}`' for code in names)}",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, names in by_status.items()
    }
