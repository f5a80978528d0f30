"""The announcement of the models that a worker serves."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from service.contracts import HOLDS_LABELS, WorkerStatus
from service.errors import BackendUnavailable, QueueUnavailable, VidtrError
from service.inference.backend import Backend
from service.periodic import Periodic
from service.queue.clip_routes import masked_route_of, route_of
from service.queue.partitions import Independently
from service.telemetry import metrics
from service.worker.breaker import Breaker
from service.worker.config import WorkerConfig
from service.worker.drain_rate import DrainRate
from service.worker.partition_source import Source
from service.worker.served_models import ServedModels
from service.worker.watchdog import Watchdog

log = structlog.get_logger()

BREAKER_CHECK_S = 0.5
MAX_INTERVAL_S = 60.0


class Heartbeat:
    """Looks at the backend, and announces its models and the state of the worker in each partition, until it is closed.

    Attributes:
        served: what the worker serves now; empty until the backend has been reached once.
    """

    def __init__(
        self,
        config: WorkerConfig,
        backend: Backend,
        sources: Sequence[Source],
        breaker: Breaker,
        rate: DrainRate,
        watchdog: Watchdog,
    ) -> None:
        self.served = ServedModels()
        self._config = config
        self._backend = backend
        self._sources = sources
        self._breaker = breaker
        self._rate = rate
        self._watchdog = watchdog
        self._backend_down = False
        self._beating = Periodic("heartbeat", self._interval_s, self._beat)
        self._announcing = Independently(config.worker_heartbeat_s)

    def start(self) -> None:
        """Begin; call once, in the event loop."""
        self._beating.start()

    def wake(self) -> None:
        """Announce now: the state of the breaker has changed."""
        self._beating.wake()

    async def close(self) -> None:
        """End after the present announcement; the last one holds until it runs out or is withdrawn."""
        await self._beating.close()

    def _interval_s(self) -> float:
        closed = self._breaker.state == "closed"
        return min(self._config.worker_heartbeat_s, MAX_INTERVAL_S if closed else BREAKER_CHECK_S)

    async def _beat(self) -> None:
        self._watchdog.touch("heartbeat")
        try:
            await self._look_at_backend()
        except VidtrError as error:
            log.warning("heartbeat_failed", code=error.code, detail=error.detail)
        else:
            await self._announcing.run(self._sources, self._announce)

    async def _announce(self, source: Source) -> None:
        try:
            status = self._status(source.stream.consumer)
            await source.directory.announce(self.served.specs, status, self._config.announcement_ttl_s)
        except VidtrError as error:
            log.warning("heartbeat_failed", code=error.code, detail=error.detail)

    async def _look_at_backend(self) -> None:
        try:
            specs = tuple(await self._backend.models())
        except BackendUnavailable as error:
            log.warning("backend_unavailable", detail=error.detail)
            self._breaker.failed()
            self._backend_down = True
            return
        if self._backend_down:
            self._backend_down = False
            self._breaker.probe()
        if specs != self.served.specs:
            served = ServedModels(specs)
            await self._join(served)
            log.info("serving", models=[f"{spec.name}:{spec.version}" for spec in specs])
            for told, value in ((self.served, 0), (served, 1)):
                for spec in told.specs:
                    metrics.MODEL_ARITHMETIC.labels(spec.name, spec.version, spec.computed_in).set(value)
            self.served = served

    async def _join(self, served: ServedModels) -> None:
        """Create the consumer groups, at least in one partition. Others get them when their streams are first read."""
        joined: list[Source] = []
        problems: list[QueueUnavailable] = []

        async def join(source: Source) -> None:
            try:
                await source.stream.join(served.max_batch_by_route)
                joined.append(source)
            except QueueUnavailable as error:
                problems.append(error)

        await Independently(self._config.worker_heartbeat_s).run(self._sources, join)
        if problems and not joined:
            raise problems[0]

    def _status(self, worker: str) -> WorkerStatus:
        specs = self.served.specs
        return WorkerStatus(
            worker=worker,
            models=tuple(f"{spec.name}:{spec.version}" for spec in specs),
            routes=tuple(route for spec in specs for route in (route_of(spec), masked_route_of(spec))),
            breaker=self._breaker.state,
            retry_in_s=self._breaker.retry_in_s,
            clips_per_s=self._rate.by_model(),
            capabilities=(HOLDS_LABELS,),
        )
