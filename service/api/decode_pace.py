"""Who decodes next, and how long uploads wait for it, as the last decodes have it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from service.api.turns import Turns
from service.contracts import JobClass
from service.errors import VidtrError

WEIGHT = 0.2


class DecodePace:
    """Turns at the decode processes; a moving average of how long one takes, and what follows for the next upload."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._turns = Turns(processes)
        self._decode_s: float | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._turns.waiting

    @contextlib.asynccontextmanager
    async def turn(self, job_class: JobClass, caller: str = "") -> AsyncIterator[None]:
        """Wait for a free process. What happens inside is timed, with all that a decode costs around the decoder."""
        async with self._turns.turn(caller, job_class):
            started = self._clock()
            try:
                yield
            except VidtrError:
                self.observe(self._clock() - started)
                raise
            self.observe(self._clock() - started)

    def observe(self, decode_s: float) -> None:
        """A decode has taken so many seconds, without its wait."""
        self._decode_s = decode_s if self._decode_s is None else (1 - WEIGHT) * self._decode_s + WEIGHT * decode_s

    def ready_in_s(self, ahead: int) -> float:
        """Seconds until an upload is decoded that comes after `ahead` others; 0 where nothing was decoded yet."""
        return (ahead + 1) * (self._decode_s or 0.0) / self._processes
