"""Answers that are errors, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from service.client.retries import retry_after_s
from service.errors import (
    BackendUnavailable,
    InternalError,
    MalformedRequest,
    RequestError,
    ServiceError,
    TemporaryError,
    VidtrError,
    error_from_dict,
    error_types,
)

# What proxies and load balancers say while the service behind them is away.
_GATEWAY = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def error_of(reply: Reply) -> VidtrError | None:
    """The exception for an answer; None for one that is no error."""
    if 200 <= reply.status < 300:
        return None
    try:
        body = httpx.Response(reply.status, content=reply.content).json()
    except ValueError:
        body = None
    after_s = retry_after_s(reply.headers.get("retry-after"))
    if not isinstance(body, dict) or not isinstance(body.get("code"), str) or not isinstance(body.get("detail"), str):
        return _bare(reply.status, after_s)
    error = problem_error({**body, "retry_after_s": after_s}, reply.status)
    error.request_id = str(body.get("request_id", ""))
    return error


def problem_error(problem: dict[str, Any], status: int = httpx.codes.INTERNAL_SERVER_ERROR) -> VidtrError:
    """The exception for a problem or for the error of a job. A code of a newer server keeps its name."""
    if problem["code"] in error_types():
        return error_from_dict(problem)
    kind: type[VidtrError] = ServiceError if status >= httpx.codes.INTERNAL_SERVER_ERROR else RequestError
    if problem.get("retry_after_s") is not None:
        kind = TemporaryError
    error = kind(
        problem["detail"],
        limit=problem.get("limit"),
        actual=problem.get("actual"),
        retry_after_s=problem.get("retry_after_s"),
    )
    error.code = problem["code"]
    return error


def _bare(status: int, after_s: float | None) -> VidtrError:
    detail = f"The server answered {status} without a problem document."
    if status in _GATEWAY:
        return BackendUnavailable(detail, retry_after_s=after_s)
    return InternalError(detail) if status >= httpx.codes.INTERNAL_SERVER_ERROR else MalformedRequest(detail)
