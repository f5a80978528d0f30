"""Answers that are errors, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.client.retries import retry_after_s
from service.errors import (
    BackendUnavailable,
    BadLine,
    Forbidden,
    HeadersTooLarge,
    HostNotAllowed,
    InternalError,
    InvalidManifest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    QuotaExceeded,
    RequestError,
    ServiceError,
    TemporaryError,
    Unauthorized,
    UnexpectedAnswer,
    UnsupportedMediaType,
    UploadTimeout,
    UploadTooLarge,
    UrlTooLong,
    VidtrError,
    error_from_dict,
    error_types,
)

# What proxies and load balancers in front of the service mean by a status. From 520 on it is what content delivery
# networks say while they cannot reach it.
_BY_STATUS: Mapping[int, type[VidtrError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    407: Unauthorized,
    408: UploadTimeout,
    413: UploadTooLarge,
    414: UrlTooLong,
    415: UnsupportedMediaType,
    421: HostNotAllowed,
    429: QuotaExceeded,
    431: HeadersTooLarge,
    502: BackendUnavailable,
    503: BackendUnavailable,
    504: BackendUnavailable,
    **dict.fromkeys(range(520, 531), BackendUnavailable),
}
# How long to leave a gateway alone that says too much was asked, and not for how long.
_CROWDED_S = 1.0

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Reply:
    """A whole answer; `proxy` is the one of the environment that was asked in the place of the server."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    proxy: str | None = None


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
        return _bare(reply, after_s)
    error = problem_error({**body, "retry_after_s": after_s}, reply.status)
    error.request_id = str(body.get("request_id", ""))
    return error


def problem_error(problem: dict[str, Any], status: int = httpx.codes.INTERNAL_SERVER_ERROR) -> VidtrError:
    """The exception for a problem or for the error of a job. A code of a newer server keeps its name."""
    if problem["code"] in error_types():
        known = error_from_dict(problem)
        if isinstance(known, InvalidManifest):
            known.lines = _lines(problem.get("lines"))
        return known
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


def _lines(found: Any) -> tuple[BadLine, ...]:
    """The lines of a manifest that are wrong, as far as they are told as this client knows it."""
    try:
        return tuple(BadLine(one["line"], one["detail"], one.get("limit"), one.get("actual")) for one in found or ())
    except (TypeError, KeyError, AttributeError):
        return ()


def parsed(model: type[Model], reply: Reply) -> Model:
    """The body of an answer that is no error. Raises UnexpectedAnswer where it is not what the service sends."""
    try:
        return model.model_validate_json(reply.content)
    except ValidationError as error:
        raise foreign(reply) from error


def foreign(reply: Reply) -> UnexpectedAnswer:
    """The error for an answer that says all is well, in words that are not the service's."""
    kind = reply.headers.get("content-type") or "no type"
    detail = (
        f"The server answered {reply.status} with {len(reply.content)} bytes of {kind}, which are no answer of this"
        f" service. Check its address, and whether a log-in page stands before it.{_asked(reply.proxy)}"
    )
    return UnexpectedAnswer(detail, actual=reply.status)


def _asked(proxy: str | None) -> str:
    if proxy is None:
        return ""
    return f" The proxy {proxy}, which the environment names, was asked and may have answered: see NO_PROXY."


def _bare(reply: Reply, after_s: float | None) -> VidtrError:
    """The error for an answer that is no problem document: the service's own errors all are."""
    status = reply.status
    if status < httpx.codes.BAD_REQUEST:
        where = reply.headers.get("location") or "no other address"
        detail = f"The server answered {status} and names {where}. Use that address.{_asked(reply.proxy)}"
        return UnexpectedAnswer(detail, actual=status)
    phrase = httpx.codes.get_reason_phrase(status)
    named = f"{status} ({phrase})" if phrase else str(status)
    detail = f"The server answered {named} without a problem document." + (
        _asked(reply.proxy) or " A proxy in front of the service may have sent it."
    )
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = InternalError if status >= httpx.codes.INTERNAL_SERVER_ERROR else MalformedRequest
    if kind is QuotaExceeded and after_s is None:
        after_s = _CROWDED_S
    return kind(detail, actual=status, retry_after_s=after_s)
