"""The results of a batch into the object that its caller has named."""

from __future__ import annotations

import asyncio

import structlog

from service.api.batches.results import BatchResults
from service.contracts import BatchState
from service.errors import InvalidOption, QueueUnavailable
from service.periodic import wait_or_timeout
from service.queue.batch_facts import BatchFacts
from service.queue.batch_store import BatchStore
from service.sources.destinations import Destinations

log = structlog.get_logger()

TRIES = 6
FIRST_PAUSE_S = 1.0


class Delivery:
    """Writes results; a process that is stopped in the middle leaves it to another one."""

    def __init__(self, destinations: Destinations, results: BatchResults) -> None:
        self._destinations = destinations
        self._results = results

    async def deliver(self, store: BatchStore, facts: BatchFacts, stop: asyncio.Event) -> None:
        """Write the results of a batch that has ended, and close it. Raises QueueUnavailable."""
        why = ""
        if facts.record.destination is not None:
            why = "The batch was cancelled."
            if facts.state is not BatchState.CANCELLED:
                why = await self._tried(facts.record.destination, store, facts, stop)
            if stop.is_set():
                return
            log.info("batch_delivered", batch=facts.record.id, problem=why or None)
        await store.close(facts, why)

    async def _tried(self, url: str, store: BatchStore, facts: BatchFacts, stop: asyncio.Event) -> str:
        why = ""
        for number in range(TRIES):
            if number:
                await wait_or_timeout(stop, FIRST_PAUSE_S * 2.0 ** (number - 1))
            if stop.is_set() or not (why := await self._written(url, store, facts)):
                break
        return why

    async def _written(self, url: str, store: BatchStore, facts: BatchFacts) -> str:
        """Why the results are not there; empty where they are."""
        try:
            await self._destinations.write(url, self._results.lines(store, facts.record.id, 0, facts.record.total))
        except OSError as error:
            return str(error)
        except InvalidOption as error:
            return error.detail
        except QueueUnavailable:
            raise
        except Exception:
            log.exception("batch_not_delivered", batch=facts.record.id)
            return "The service failed while it wrote."
        return ""
