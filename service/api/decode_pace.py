"""How long uploads wait for a decode process, as the last decodes have it."""

from __future__ import annotations

WEIGHT = 0.2


class DecodePace:
    """A moving average of how long a decode takes, and what follows from it for the next one."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._decode_s: float | None = None

    def observe(self, decode_s: float) -> None:
        """A decode has taken so many seconds, without its wait."""
        self._decode_s = decode_s if self._decode_s is None else (1 - WEIGHT) * self._decode_s + WEIGHT * decode_s

    def ready_in_s(self, ahead: int) -> float:
        """Seconds until an upload is decoded that comes after `ahead` others; 0 where nothing was decoded yet."""
        return (ahead + 1) * (self._decode_s or 0.0) / self._processes
