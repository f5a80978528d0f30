"""What every error of the service has in common, and the families: what a caller can do about one."""

from __future__ import annotations

from typing import Any

Number = int | float

# Seconds after which a caller may try again where nothing tells how long the obstacle will last.
RETRY_AFTER_S = 2.0


def sentence(text: str) -> str:
    """A text of another program, such as a library's message, as the end of a message: with a full stop."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


class VidtrError(Exception):
    """Base of everything the service reports to a caller.

    `detail` is for a person, in whole sentences: what happened, the limit and the actual value, and what to do. `limit`
    and `actual` are the bound that was hit and the value that hit it. `retry_after_s` says when to try again.
    """

    code: str = "internal_error"
    request_id: str = ""
    """Id under which the server's log speaks of the request; a client sets it on what it raises."""

    def __init__(
        self,
        detail: str,
        *,
        limit: Number | str | None = None,
        actual: Number | str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.actual = actual
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception that is pickled or copied would lose its keyword-only arguments.
        return _rebuild, (type(self), self.detail, self.limit, self.actual, self.retry_after_s)

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for job records: `error_from_dict` is its inverse."""
        return {
            "code": self.code,
            "detail": self.detail,
            "limit": self.limit,
            "actual": self.actual,
            "retry_after_s": self.retry_after_s,
        }


def _rebuild(
    cls: type[VidtrError],
    detail: str,
    limit: Number | str | None,
    actual: Number | str | None,
    retry_after_s: float | None,
) -> VidtrError:
    return cls(detail, limit=limit, actual=actual, retry_after_s=retry_after_s)


class RequestError(VidtrError):
    """The request is wrong or not allowed. Sending it again does not help."""


class VideoError(VidtrError):
    """The video cannot be used, or only with other options."""


class TemporaryError(VidtrError):
    """Not now: the same request may succeed later, after `retry_after_s` where that is known."""


class ServiceError(VidtrError):
    """The service failed, or ran out of time."""
