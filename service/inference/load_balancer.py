"""Several engines behind one: each call goes to the least busy healthy one; unhealthy ones get a break."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.contracts import ModelSpec
from service.errors import BackendUnavailable
from service.inference.backend import Backend, Clips, Scores, served_order

logger = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0


@dataclass(slots=True)
class _Endpoint:
    name: str
    backend: Backend
    served: set[tuple[str, str]] = field(default_factory=set)
    in_flight: int = 0
    failures: int = 0
    backoff_until: float = 0.0

    def failed(self, error: BackendUnavailable) -> None:
        backoff_s = min(BACKOFF_FIRST_S * 2**self.failures, BACKOFF_MAX_S)
        self.failures += 1
        self.backoff_until = time.monotonic() + backoff_s
        logger.warning("%s is unhealthy, backing off for %.1f s: %s", self.name, backoff_s, error.detail)

    def answered(self) -> None:
        self.failures = 0
        self.backoff_until = 0.0


class BalancedBackend:
    """A `service.inference.backend.Backend` over several of them.

    An unavailable endpoint gets no calls during a backoff that doubles with each failure, up to `BACKOFF_MAX_S`. The
    others take its calls, the failed one included. When all are in backoff, the one whose backoff ends first is tried:
    with no healthy endpoint left there is nothing to lose.
    """

    def __init__(self, backends: dict[str, Backend]) -> None:
        """`backends` by the name to show in logs, such as an address."""
        self._endpoints = [_Endpoint(name, backend) for name, backend in backends.items()]

    async def start(self) -> None:
        """Start all endpoints."""
        await asyncio.gather(*(endpoint.backend.start() for endpoint in self._endpoints))

    async def models(self) -> list[ModelSpec]:
        """See `Backend.models`: what any endpoint serves. All are asked, so that one that came back is noticed."""
        listed = await asyncio.gather(*(self._listed(endpoint) for endpoint in self._endpoints))
        errors = [answer for answer in listed if isinstance(answer, BackendUnavailable)]
        if len(errors) == len(listed):
            raise errors[0]
        specs = {
            (s.name, s.version): s for answer in listed if not isinstance(answer, BackendUnavailable) for s in answer
        }
        return sorted(specs.values(), key=served_order)

    async def _listed(self, endpoint: _Endpoint) -> list[ModelSpec] | BackendUnavailable:
        try:
            specs = await endpoint.backend.models()
        except BackendUnavailable as error:
            endpoint.served = set()
            return error
        endpoint.answered()
        endpoint.served = {(spec.name, spec.version) for spec in specs}
        return specs

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """See `Backend.infer`. BackendUnavailable only after every endpoint was asked, or `timeout_s` has passed."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        untried = list(self._endpoints)
        while True:
            endpoint = self._best(untried, (model, version))
            untried.remove(endpoint)
            endpoint.in_flight += 1
            left_s = None if end is None else max(0.001, end - time.monotonic())
            try:
                scores = await endpoint.backend.infer(model, version, clips, timeout_s=left_s)
            except BackendUnavailable as error:
                endpoint.failed(error)
                if not untried or (end is not None and time.monotonic() >= end):
                    raise
            else:
                endpoint.answered()
                return scores
            finally:
                endpoint.in_flight -= 1

    def _best(self, candidates: Sequence[_Endpoint], wanted: tuple[str, str]) -> _Endpoint:
        now = time.monotonic()
        return min(
            candidates,
            key=lambda e: (wanted not in e.served, max(0.0, e.backoff_until - now), e.in_flight),
        )

    async def close(self) -> None:
        """Close all endpoints."""
        await asyncio.gather(*(endpoint.backend.close() for endpoint in self._endpoints))
