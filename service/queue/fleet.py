"""The live workers of an installation, summed, so that reading them costs the same however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.contracts import HOLDS_LABELS, JobModel, ModelSpec, WorkerStatus
from service.errors import RETRY_AFTER_S

# Rates are added up as whole numbers: sums of fractions would drift.
RATE_UNITS = 1000


def share_of(status: WorkerStatus) -> Counter[str]:
    """What one worker adds to the sums: it serves these models, with or without its engine, this fast."""
    share = Counter({"workers": 1, f"breaker:{status.breaker}": 1})
    served = {*status.models, *status.routes}
    share.update(f"serving:{name}" for name in served)
    share.update(f"{capability}:{name}" for capability in status.capabilities for name in served)
    if status.breaker == "open":
        share.update(f"open:{name}" for name in served)
    else:
        rates = {model: max(1, round(rate * RATE_UNITS)) for model, rate in status.clips_per_s.items()}
        share.update({f"rate:{model}": rate for model, rate in rates.items()})
    return share


@dataclass(frozen=True)
class Fleet:
    """Sums over the live workers, under the names that `share_of` gives them."""

    sums: Mapping[str, int]
    retry_in_s: Mapping[str, float] = field(default_factory=dict)
    """by model or route: what the worker with an open breaker says that announced itself last"""

    @classmethod
    def of(cls, workers: Iterable[WorkerStatus]) -> Fleet:
        """The sums over these workers."""
        return cls(Counter()).joined_by(workers)

    def joined_by(self, workers: Iterable[WorkerStatus]) -> Fleet:
        """The sums with these workers too."""
        sums, retry_in_s = Counter(self.sums), dict(self.retry_in_s)
        for worker in workers:
            sums.update(share_of(worker))
            if worker.breaker == "open":
                retry_in_s |= dict.fromkeys((*worker.models, *worker.routes), worker.retry_in_s)
        return Fleet(sums, retry_in_s)

    def __len__(self) -> int:
        return self.sums.get("workers", 0)

    def with_breaker(self, state: str) -> int:
        """How many workers have a circuit breaker in this state."""
        return self.sums.get(f"breaker:{state}", 0)

    def serving(self, route: str) -> int:
        """How many workers serve a route."""
        return self.sums.get(f"serving:{route}", 0)

    def serves(self, spec: ModelSpec) -> bool:
        """Whether a worker serves a model now; one that was announced stays known for a while without any."""
        return self.serving(_name_of(spec)) > 0

    def job_model(self, spec: ModelSpec) -> JobModel:
        """What the record of a job says of its model: all of it where a worker of the route would miss the labels."""
        serving = self.serving(spec.route)
        return spec.job_model if 0 < serving == self.sums.get(f"{HOLDS_LABELS}:{spec.route}") else spec

    def drain_rate(self, model: str) -> float | None:
        """Clips per second that the workers of `model` score together; None where no worker has measured it."""
        rate = self.sums.get(f"rate:{model}")
        return None if rate is None else rate / RATE_UNITS

    def engine_away_s(self, spec: ModelSpec) -> float | None:
        """Seconds until a worker of `spec` tries its engine again; None where the engine of at least one works."""
        name = _name_of(spec)
        if not 0 < self.serving(name) <= self.sums.get(f"open:{name}", 0):
            return None
        return self.retry_in_s.get(name, RETRY_AFTER_S)


def _name_of(spec: ModelSpec) -> str:
    return spec.route or f"{spec.name}:{spec.version}"
