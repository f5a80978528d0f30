"""Whose uploads have ended decode processes lately: a crash tells an attacker something, and must not be free."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from service.errors import TooManyCrashes


class Crashes:
    """The crashes of each caller within the last `window_s` seconds. Callers without a name are not counted."""

    def __init__(self, most: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """A caller may have `most`; 0 for any number."""
        self._most = most
        self._window_s = window_s
        self._clock = clock
        # The caller that crashed last comes last.
        self._at: dict[str, deque[float]] = {}

    def check(self, caller: str) -> None:
        """Raise TooManyCrashes where a caller has had as many as one may have."""
        at = self._of(caller)
        if self._most and len(at) >= self._most:
            raise TooManyCrashes(
                f"{len(at)} of your uploads crashed the decoder within {self._window_s:g} s; the limit is {self._most}."
                " Convert your videos, or try again later.",
                limit=self._most,
                actual=len(at),
                retry_after_s=max(1.0, at[0] + self._window_s - self._clock()),
            )

    def count(self, caller: str) -> None:
        """An upload of `caller` has ended its process, or made it say what cannot be."""
        if caller:
            at = self._at.pop(caller, None) or deque(maxlen=self._most or 1)
            at.append(self._clock())
            self._at[caller] = at

    def suspects(self, caller: str) -> bool:
        """Whether an upload of `caller` has crashed lately."""
        return bool(self._of(caller))

    def _of(self, caller: str) -> deque[float]:
        before = self._clock() - self._window_s
        while self._at and next(iter(self._at.values()))[-1] <= before:
            del self._at[next(iter(self._at))]
        at = self._at.get(caller, deque())
        while at and at[0] <= before:
            at.popleft()
        return at
