"""What an error of Redis means: a server that is not written to, one that is full, one that cannot be reached."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import AuthenticationError, ConnectionError, MovedError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.redis_url import Address


class NotWritable(ConnectionError):
    """No server takes writes at the moment, or the one that was asked does not. The message says why."""


class Misconfigured(ConnectionError):
    """A setting does not fit what was found. The message says which."""


# Replies of a server that does not take the write: what they mean, by the word they begin with.
NOT_WRITABLE = {
    "READONLY": "the server is a replica",
    "MASTERDOWN": "the server is a replica that has lost its primary",
    "MOVED": "another server of the cluster has these keys",
    "ASK": "the keys are being moved to another server of the cluster",
    "TRYAGAIN": "the keys are being moved to another server of the cluster",
    "CLUSTERDOWN": "the cluster is down",
    "LOADING": "the server is loading its data",
    "NOREPLICAS": "the server has fewer replicas than it requires",
    "UNBLOCKED": "the server has become a replica",
}
# Refused inside a script, the word stands within the message, at least in releases before 7.
_WORD = re.compile(rf"(?:^|\s-)({'|'.join(NOT_WRITABLE)})\b")
_ELSEWHERE = "Script attempted to access a non local key"


def not_writable(error: RedisError) -> str | None:
    """Why the server did not take a write, where that is what its reply says."""
    word = getattr(error, "status_code", None)
    if word in NOT_WRITABLE:
        return NOT_WRITABLE[word]
    if (found := _WORD.search(str(error))) is not None:
        return NOT_WRITABLE[found[1]]
    return NOT_WRITABLE["TRYAGAIN"] if _ELSEWHERE in str(error) else None


def moved_to(error: RedisError) -> Address | None:
    """Where a server of a cluster says that the keys are."""
    return (error.host, error.port) if isinstance(error, MovedError) and error.host else None


def is_full(error: RedisError) -> bool:
    """Whether the server has reached its memory limit."""
    # Refused inside a script, it comes as a plain error of the script.
    return getattr(error, "status_code", None) == "OOM" or "-OOM " in str(error)


def why_unreachable(error: BaseException) -> str:
    """One phrase that tells a wrong certificate from a wrong name, a wrong password and a server that is away."""
    for cause in _causes(error):
        if isinstance(cause, Misconfigured):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS as expected ({cause.reason or cause})"
        if isinstance(cause, socket.gaierror):
            return f"its name cannot be resolved ({cause.strerror})"
        if isinstance(cause, ConnectionRefusedError):
            return "it refuses connections"
        if isinstance(cause, FileNotFoundError):
            return "its socket does not exist"
        if isinstance(cause, AuthenticationError):
            return f"it does not accept user and password ({cause})"
        if isinstance(cause, TimeoutError | RedisTimeoutError):
            return "it does not answer in time"
    return f"{type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
