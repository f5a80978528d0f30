"""Warnings that say again what one has just said: counted, and written once in a while."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

INTERVAL_S = 10.0
"""Between two equal lines. An outage is worth a line, and not five a second from each of many processes."""
_REMEMBERED = 256


class RepeatedWarnings:
    """A processor of structlog that holds back a warning whose every field equals one of the last `INTERVAL_S`.

    The next one that is written has `repeated`, how many were held back since.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: dict[str, tuple[float, int]] = {}

    def __call__(self, logger: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The fields, as they are to be written. Raises structlog.DropEvent for a line that is held back."""
        if method != "warning":
            return fields
        said = repr(sorted(fields.items()))
        now = self._clock()
        at, held_back = self._written.get(said, (-INTERVAL_S, 0))
        if now - at < INTERVAL_S:
            self._written[said] = at, held_back + 1
            raise structlog.DropEvent
        # The newest last, so that the first are those to forget.
        self._written.pop(said, None)
        self._written[said] = now, 0
        if len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]
        return {**fields, "repeated": held_back} if held_back else fields
