"""Request headers that shape the wait: `Prefer` (RFC 7240) and `X-Deadline-S`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.api.header_lists import elements
from service.api.plain_numbers import is_plain_number
from service.errors import InvalidOption

# Printable ASCII, with nothing at its ends that HTTP would strip.
KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
MAX_KEY = 255

_SECONDS = re.compile(r"[0-9]{1,9}")


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

    An unknown preference is ignored, and so is a repeated one after its first, as RFC 7240 wants it; `respond-async`
    wins over `wait`. Raises InvalidOption for a bad `X-Deadline-S`.
    """
    asked: dict[str, str] = {}
    for preference in elements(prefer):
        asked.setdefault(preference.name, preference.value)
    wait_s, applied = sync_wait_s, None
    if asked.get("respond-async") == "":
        wait_s, applied = 0.0, "respond-async"
    elif _SECONDS.fullmatch(asked.get("wait", "")):
        wait_s, applied = min(float(asked["wait"]), sync_wait_s), f"wait={asked['wait']}"
    return WaitPolicy(wait_s, _deadline(deadline_s, job_deadline_s), applied)


def _deadline(text: str | None, limit: float) -> float:
    if text is None:
        return limit
    seconds = float(text) if is_plain_number(text) else 0.0
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
