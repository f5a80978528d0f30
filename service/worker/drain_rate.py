"""How fast a worker drains the queue."""

from __future__ import annotations

# Of two measurements the older one counts this much less: about ten batches are remembered.
FADING = 0.9


class DrainRate:
    """Clips scored per busy second, by model.

    Full batches say best what a worker can do under load; until there are any, all batches are taken.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, bool], tuple[float, float]] = {}

    def observe(self, model: str, clips: int, seconds: float, *, full: bool) -> None:
        """A batch of `clips` took `seconds` from the queue to its results."""
        before = self._sums.get((model, full), (0.0, 0.0))
        self._sums[model, full] = (before[0] * FADING + clips, before[1] * FADING + seconds)

    def by_model(self) -> dict[str, float]:
        """Clips per second of each model that was measured."""
        rates = {}
        for full in (False, True):
            for (model, kind), (clips, seconds) in self._sums.items():
                if kind is full and seconds > 0:
                    rates[model] = clips / seconds
        return rates
