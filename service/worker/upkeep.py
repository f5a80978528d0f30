"""The share of each worker in keeping Redis tidy."""

from __future__ import annotations

import contextlib

import structlog

from service.errors import QueueUnavailable
from service.periodic import Periodic
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog

log = structlog.get_logger()

UPKEEP_S = 1.0
# A consumer that is idle for so many leases belongs to a worker that has gone.
IDLE_LEASES = 10


class Upkeep:
    """Of one partition: ends overdue jobs, and deletes old dead letters, streams without readers and the consumers of
    lost workers. Each is done by one process at a time.
    """

    def __init__(self, source: Source, lease_s: float, watchdog: Watchdog) -> None:
        self._source = source
        self._idle_s = IDLE_LEASES * lease_s
        self._watchdog = watchdog
        self._running = Periodic("upkeep", UPKEEP_S, self._run)

    def start(self) -> None:
        """Begin; call once, in the event loop."""
        self._running.start()

    async def close(self) -> None:
        """End after the present round."""
        await self._running.close()
        with contextlib.suppress(QueueUnavailable):
            await self._source.directory.turns.end()

    async def _run(self) -> None:
        self._watchdog.touch("upkeep")
        try:
            source = self._source
            turns = source.directory.turns
            if await turns.deadlines.due():
                await source.completion.sweep()
            if await turns.letters.due():
                await source.completion.trim()
            if await turns.streams.due():
                await source.directory.clear()
            if await turns.consumers.due():
                await source.stream.tidy(await source.directory.routes(), self._idle_s)
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
        except Exception:
            log.exception("upkeep_failed")
