"""Fair shares within one process: how much of each shared resource every caller holds."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.queue.fair_share import FairShare
from service.telemetry import metrics


@dataclass(frozen=True)
class Refused:
    """Why a caller gets no more: all is taken, or its share is."""

    limit: int
    actual: int
    own: bool
    """whether it is the caller's share that is used up"""


class Shared:
    """One thing that callers share, such as upload slots. What is held must be given back."""

    def __init__(self, name: str, capacity: int, rule: Callable[[], FairShare]) -> None:
        """`name` is its label in the metrics; `rule` is asked each time, because keys come and go."""
        self._name = name
        self._capacity = capacity
        self._rule = rule
        self._held: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """What all hold together."""
        return self._held.total()

    def held(self, caller: str) -> int:
        """What one caller holds."""
        return self._held[caller]

    def ahead(self, caller: str) -> int:
        """How many of those that are held are served before the caller's next one, where callers take turns."""
        own = self._held[caller]
        return sum(own if other == caller else min(held, own + 1) for other, held in self._held.items())

    def take(self, caller: str, more: int = 1, *, free: int | None = None) -> Refused | None:
        """Let a caller hold more, or say why not. `free` is what is left, where something else than us decides that."""
        left = self._capacity - self.total if free is None else free
        held, rule = self._held[caller], self._rule()
        if more > left:
            return Refused(self.total + left, self.total, own=False)
        if not rule.allows(held, left, more):
            metrics.SHARE_REFUSALS.labels(self._name).inc()
            return Refused(rule.most(held, left), held, own=True)
        self._held[caller] += more
        return None

    def give_back(self, caller: str, amount: int = 1) -> None:
        """Take back what a caller no longer holds."""
        self._held[caller] -= amount
        if self._held[caller] <= 0:
            del self._held[caller]

    @contextlib.contextmanager
    def held_by(self, caller: str) -> Iterator[None]:
        """Give back one that was taken, at the end."""
        try:
            yield
        finally:
            self.give_back(caller)


class Shares:
    """The rule of one process, and what it applies to."""

    def __init__(self, share: float, only_one: Callable[[], bool] = lambda: False) -> None:
        """`only_one` says whether there can be only one caller, who may then use everything."""
        self._share = FairShare(share)
        self._only_one = only_one

    def rule(self) -> FairShare:
        """The rule as it is now."""
        return FairShare(1.0) if self._only_one() else self._share

    def of(self, name: str, capacity: int) -> Shared:
        """Share out one more thing."""
        return Shared(name, capacity, self.rule)

    def for_all(self) -> Shares:
        """The same rule where it is not callers who share: there may always be another."""
        return Shares(self._share.share)
