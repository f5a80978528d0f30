"""How fast a worker drains the queue."""

from __future__ import annotations

# Of two measurements the older one counts this much less: about ten batches are remembered.
FADING = 0.9


class DrainRate:
    """Clips scored per busy second, by model.

    Full batches show best what a worker can do under load; until there are any, all batches count.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, bool], tuple[float, float]] = {}

    def observe(self, model: str, clips: int, seconds: float, *, full: bool) -> None:
        """A batch of `clips` took `seconds` from the queue to its results."""
        before = self._sums.get((model, full), (0.0, 0.0))
        self._sums[model, full] = (before[0] * FADING + clips, before[1] * FADING + seconds)

    def of(self, model: str) -> float | None:
        """Clips per second of one model; None where nothing was measured."""
        clips, seconds = self._sums.get((model, True)) or self._sums.get((model, False)) or (0.0, 0.0)
        return clips / seconds if seconds > 0 else None

    def by_model(self) -> dict[str, float]:
        """Clips per second of each model that was measured."""
        rates = {model: self.of(model) for model, _ in self._sums}
        return {model: rate for model, rate in rates.items() if rate is not None}
