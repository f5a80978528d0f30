"""Request headers that shape the wait: `Prefer` (RFC 7240) and `X-Deadline-S`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.errors import InvalidOption

# Printable ASCII, with nothing at its ends that HTTP would strip.
KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
MAX_KEY = 255

_WAIT = re.compile(r"wait=(\d{1,9})")


@dataclass(frozen=True)
class WaitPolicy:
    """How long a caller waits and how long its job may take, in seconds."""

    wait_s: float
    deadline_s: float
    applied: str | None

    @property
    def asynchronous(self) -> bool:
        """Whether the caller asked not to wait at all."""
        return self.wait_s == 0


def read_wait_policy(
    prefer: str | None, deadline_s: str | None, sync_wait_s: float, job_deadline_s: float
) -> WaitPolicy:
    """Read the values of both headers; they only shorten the server's limits, the last two arguments.

    An unknown preference is ignored, as RFC 7240 wants it. Raises InvalidOption for a bad `X-Deadline-S`.
    """
    wait_s, applied = sync_wait_s, None
    for preference in (prefer or "").lower().split(","):
        preference = preference.strip()
        if preference == "respond-async":
            wait_s, applied = 0.0, preference
        elif (asked := _WAIT.fullmatch(preference)) and applied != "respond-async":
            wait_s, applied = min(float(asked[1]), sync_wait_s), preference
    return WaitPolicy(wait_s, _deadline(deadline_s, job_deadline_s), applied)


def _deadline(text: str | None, limit: float) -> float:
    if text is None:
        return limit
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        detail = f"X-Deadline-S must be a positive number of seconds, not {text!r}."
        raise InvalidOption(detail, limit=limit, actual=text)
    return min(seconds, limit)


def checked_key(key: str | None) -> str | None:
    """The value of `Idempotency-Key`. Raises InvalidOption where it is empty, too long or not printable ASCII."""
    if key is not None and not KEY.fullmatch(key):
        detail = (
            f"Idempotency-Key must have 1 to {MAX_KEY} printable ASCII characters; this one has {len(key)} characters."
        )
        raise InvalidOption(detail, limit=MAX_KEY, actual=len(key))
    return key
