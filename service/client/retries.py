"""When a request that did not go through is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from service.errors import QuotaExceeded, TemporaryError, VidtrError

# Faults of the request or of this process: the next try would end in the same way.
_HOPELESS = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


@dataclass(frozen=True)
class Retry:
    """How long and how often to try again. All times are seconds.

    A `Retry-After` of the server is a lower bound of the pause; without one it doubles from `first_pause_s` to
    `longest_pause_s`, each shortened by a random part so that many clients do not come back together.
    """

    for_s: float = 120.0
    """Tries start within this time of the first one; 0 tries once."""
    unreachable_s: float = 8.0
    """The same for a server to which no connection can be made."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0

    def pause_s(self, error: Exception, tries: int, elapsed_s: float) -> float | None:
        """Seconds to wait after the `tries`-th try failed with `error`; None where trying again is of no use."""
        after_s = getattr(error, "retry_after_s", None)
        if not self._may_pass(error, after_s):
            return None
        backoff_s = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (tries - 1))
        pause_s: float = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
        if after_s is not None:
            pause_s += after_s
        unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        limit_s = min(self.for_s, self.unreachable_s) if unreachable else self.for_s
        return pause_s if elapsed_s + pause_s <= limit_s else None

    @staticmethod
    def _may_pass(error: Exception, after_s: float | None) -> bool:
        if isinstance(error, VidtrError):
            # Without a time the video alone is longer than the quota.
            return isinstance(error, TemporaryError) and not (isinstance(error, QuotaExceeded) and after_s is None)
        return isinstance(error, httpx.TransportError) and not isinstance(error, _HOPELESS)


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, given as a number or as a date; None where it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())
