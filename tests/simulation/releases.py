"""Workers of an earlier release among those of this one: they cannot leave frames out of clips."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING
from unittest import mock

from redis.asyncio import Redis

from service.contracts import ModelSpec
from service.queue.clip_entries import ClipEntry, ClipState
from service.queue.clip_routes import masked_route_of, route_of, routes
from service.queue.clip_stream import ClipStream
from service.queue.redis_keys import RedisKeys
from tests.simulation.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

earlier: ContextVar[bool] = ContextVar("earlier", default=False)
"""Whether the current task is one of a process of the earlier release."""


@contextlib.contextmanager
def mixed() -> Iterator[None]:
    """Processes of the earlier release neither read nor announce the routes of clips with frames left out."""

    def instead_of_masked(other: Callable[[ModelSpec], str]) -> Callable[[ModelSpec], str]:
        return lambda spec: other(spec) if earlier.get() else masked_route_of(spec)

    def known(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
        hidden = {masked_route_of(spec) for spec in specs} if earlier.get() else set()
        return {route: spec for route, spec in routes(specs).items() if route not in hidden}

    with (
        mock.patch("service.worker.served_models.routes", known),
        mock.patch("service.worker.heartbeat.masked_route_of", instead_of_masked(route_of)),
        mock.patch("service.queue.model_directory.masked_route_of", instead_of_masked(lambda spec: spec.name)),
    ):
        yield


class WatchedStream(ClipStream):
    """The streams as a worker sees them, and a look at what it sees."""

    def __init__(self, redis: Redis, keys: RedisKeys, consumer: str, ledger: Ledger) -> None:
        super().__init__(redis, keys, consumer)
        self._ledger = ledger

    async def look_up(self, entries: Sequence[ClipEntry]) -> list[ClipState]:
        if earlier.get() and any(entry.view is not None for entry in entries):
            self._ledger.violated("a worker of an earlier release got an entry that it cannot read")
        states = await super().look_up(entries)
        if any(state.payload is None and state.job == "open" and not state.scored for state in states):
            self._ledger.violated("a clip is gone that is still to be scored")
        return states
