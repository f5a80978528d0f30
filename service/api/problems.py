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
    BadLine,
    InternalError,
    InvalidManifest,
    InvalidOption,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    VidtrError,
    error_types,
    sentence,
)
from service.telemetry import metrics

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    "malformed_request": 400,
    "unauthorized": 401,
    "cross_site_refused": 403,
    "source_not_allowed": 403,
    "forbidden": 403,
    "not_found": 404,
    "unknown_model": 404,
    "unknown_job": 404,
    "unknown_dead_letter": 404,
    "unknown_upload": 404,
    "unknown_batch": 404,
    "unknown_stream": 404,
    "method_not_allowed": 405,
    "upload_timeout": 408,
    "head_timeout": 408,
    "idempotency_in_progress": 409,
    "nothing_to_export": 409,
    "result_not_ready": 409,
    "source_changed": 409,
    "upload_incomplete": 409,
    "upload_offset_mismatch": 409,
    "stream_offset_mismatch": 409,
    "job_deleted": 410,
    "stream_ended": 410,
    "result_expired": 410,
    "tus_version": 412,
    "upload_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "container_not_allowed": 415,
    "codec_not_allowed": 415,
    "host_not_allowed": 421,
    "invalid_option": 422,
    "invalid_manifest": 422,
    "idempotency_key_reused": 422,
    "source_refused": 422,
    "source_limit": 422,
    "empty_upload": 422,
    "encrypted_video": 422,
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
    "evidence_too_large": 422,
    "spatial_attention_too_large": 422,
    "upload_locked": 423,
    "stream_busy": 423,
    "quota_exceeded": 429,
    "too_many_crashes": 429,
    "too_many_uploads": 429,
    "too_many_batches": 429,
    "headers_too_large": 431,
    "checksum_mismatch": 460,
    "internal_error": 500,
    "invalid_keys": 500,
    "invalid_signing_key": 500,
    "precision_unavailable": 500,
    "sandbox_missing": 500,
    "partitions_changed": 500,
    "backend_failed": 500,
    "source_unavailable": 502,
    "unexpected_answer": 502,
    "too_many_connections": 503,
    "queue_full": 503,
    "queue_unavailable": 503,
    "backend_unavailable": 503,
    "evidence_unavailable": 503,
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
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    423: "Locked",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    # Of the protocol tus, not of an RFC.
    460: "Checksum Mismatch",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class ProblemLine(BaseModel):
    """What is wrong with one line of a manifest."""

    line: int = Field(description="its number, from 1", examples=[4])
    detail: str = Field(description="what is wrong, for a person", examples=["Field required: `source`."])
    limit: int | float | str | None = Field(None, description="the bound that was hit", examples=[1000])
    actual: int | float | str | None = Field(None, description="the value that hit it", examples=[5000])


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
    lines: list[ProblemLine] | None = Field(
        None,
        description="of a manifest, the first lines that are wrong",
        examples=[[{"line": 4, "detail": "Field required: `source`."}]],
    )


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
    if isinstance(error, InvalidManifest) and error.lines:
        body["lines"] = [_line(line) for line in error.lines]
    metrics.ERRORS.labels(error.code).inc()
    return body


def _line(line: BadLine) -> dict[str, Any]:
    return ProblemLine(line=line.line, detail=line.detail, limit=line.limit, actual=line.actual).model_dump(
        exclude_none=True
    )


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
        # What follows the name are places in the type: an element of a list, a member of a union.
        where = str(first["loc"][1]) if len(first["loc"]) > 1 else "request"
        detail = f"Option {where!r} is not valid: {sentence(first['msg'])}"
        actual = first.get("input")
        # To Python a truth value is a number.
        said = isinstance(actual, int | float | str) and not isinstance(actual, bool)
        return problem(
            InvalidOption(detail, actual=actual if said else None),
            request.state.request_id,
        )

    async def http(request: Request, raised: Exception) -> JSONResponse:
        error = cast(HTTPException, raised)
        known: VidtrError
        if error.status_code == HTTPStatus.NOT_FOUND:
            path = request.url.path
            detail = f"There is no resource at {path}."
            known = NotFound(f"{detail} Leave out the slash at its end." if path.endswith("/") else detail)
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
    methods = {method.upper() for method in request.app.openapi()["paths"].get(path, {})}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _example(code: str, status: int) -> dict[str, Any]:
    """OpenAPI's example of a problem; what it says is what the error is for."""
    said = " ".join((error_types()[code].__doc__ or "").split())
    value = {
        "type": f"urn:vidtr:error:{code}",
        "title": TITLES[status],
        "status": status,
        "code": code,
        "detail": said.replace("`", ""),
        "request_id": "0f9a52f7c1d94f1c8c2f2f5d7d1f8a35",
    }
    return {"summary": code.replace("_", " ").capitalize(), "value": value}


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the statuses that these error codes have."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: {
            "description": f"{TITLES[status]}: {', '.join(f'`{code}`' for code in names)}",
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code: _example(code, status) for code in names},
                }
            },
        }
        for status, names in by_status.items()
    }
