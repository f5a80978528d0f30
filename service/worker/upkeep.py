"""The share of each worker in keeping Redis tidy."""

from __future__ import annotations

import structlog

from service.errors import QueueUnavailable
from service.periodic import Periodic
from service.worker.heartbeat import Heartbeat
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog

log = structlog.get_logger()

UPKEEP_S = 1.0
# A consumer that is idle for so many leases belongs to a worker that has gone.
IDLE_LEASES = 10


class Upkeep:
    """Of one partition: ends overdue jobs, and deletes old dead letters, streams without readers and the consumers of
    lost workers.
    """

    def __init__(self, source: Source, heartbeat: Heartbeat, lease_s: float, watchdog: Watchdog) -> None:
        self._source = source
        self._heartbeat = heartbeat
        self._idle_s = IDLE_LEASES * lease_s
        self._watchdog = watchdog
        self._running = Periodic("upkeep", UPKEEP_S, self._run)

    def start(self) -> None:
        """Begin; call once, in the event loop."""
        self._running.start()

    async def close(self) -> None:
        """End after the present round."""
        await self._running.close()

    async def _run(self) -> None:
        self._watchdog.touch("upkeep")
        try:
            await self._source.completion.sweep()
            await self._source.directory.clear()
            await self._source.stream.tidy(self._heartbeat.served.max_batch_by_route, self._idle_s)
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
        except Exception:
            log.exception("upkeep_failed")
