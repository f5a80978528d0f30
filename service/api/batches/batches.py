"""The batches of an installation: accepted here, driven by the API process that has the lease of each."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import structlog

from service.api.auth import Authenticator, Principal
from service.api.batches.delivery import Delivery
from service.api.batches.drive import BEAT_S, BatchDrive, cancelled, end_rest
from service.api.batches.line import Lines
from service.api.batches.manifest import ManifestLimits, read_manifest
from service.api.batches.results import BatchResults
from service.api.schemas import ClassifyOptions
from service.api.shares import Shares
from service.api.url_sources import Sources
from service.api.webhook_sender import Webhooks
from service.contracts import BatchRecord, JobRequest
from service.errors import RETRY_AFTER_S, Draining, QueueUnavailable, UnknownBatch
from service.periodic import Periodic
from service.queue.batch_facts import BatchFacts
from service.queue.batch_store import BatchStore
from service.queue.clock import Clock
from service.queue.durability import Durability
from service.queue.partitions import Independently, PerPartition, job_id_in
from service.queue.turns import Turn
from service.queue.webhook_queue import WebhookDelivery
from service.sources.destinations import Destinations

log = structlog.get_logger()

# Every so often a process looks for batches that no other drives any more.
LOOK_S = 5.0
# Batches that one process drives at a time.
MOST_DRIVEN = 32


@dataclass(frozen=True)
class BatchesConfig:
    """Field names equal those of `service.settings.Settings`."""

    batch_concurrency: int
    batch_deadline_s: int
    batch_ttl_s: int


@dataclass(frozen=True)
class Manifest:
    """What a caller has sent."""

    media_type: str
    body: bytes
    options: ClassifyOptions
    destination: str | None = None
    webhook: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        own = f"{self.destination or ''}\n{self.webhook or ''}"
        head = f"{self.media_type}\n{own}\n{self.options.model_dump_json(exclude_unset=True)}\n"
        return hashlib.sha256(head.encode() + self.body).hexdigest()


@dataclass(frozen=True)
class _Driven:
    drive: BatchDrive
    task: asyncio.Task[None]


class Batches:
    """Accepts, drives and cancels batches. Owned by the app, one per process."""

    def __init__(
        self,
        config: BatchesConfig,
        limits: ManifestLimits,
        stores: PerPartition[BatchStore],
        durabilities: PerPartition[Durability],
        clocks: PerPartition[Clock],
        lines: Lines,
        destinations: Destinations,
        results: BatchResults,
        auth: Authenticator,
        sources: Sources,
        webhooks: Webhooks[WebhookDelivery],
        shares: Shares,
        draining: Callable[[], bool],
        beat_s: float = BEAT_S,
        look_s: float = LOOK_S,
    ) -> None:
        """`draining` says whether the process is shutting down. A lease lasts four times `beat_s`."""
        self._config = config
        self.limits = limits
        self._stores = stores
        self._durabilities = durabilities
        self._clocks = clocks
        self._lines = lines
        self._destinations = destinations
        self._delivery = Delivery(destinations, results)
        self.results = results
        self._auth = auth
        self._sources = sources
        self._webhooks = webhooks
        self._driving = shares.of("batches", MOST_DRIVEN)
        self._draining = draining
        self._beat_s = beat_s
        self._leases: dict[str, Turn] = {}
        self._driven: dict[str, _Driven] = {}
        self._looking = Periodic("batches", look_s, self._look)
        self._in_each = Independently(look_s)

    def start(self) -> None:
        """Begin to drive what is open; call once, in the event loop."""
        self._looking.start()

    async def close(self) -> None:
        """Drive no more: another process goes on."""
        await self._looking.close()
        for driven in self._driven.values():
            driven.drive.halt()
        if self._driven:
            await asyncio.wait([driven.task for driven in self._driven.values()])

    def of(self, batch_id: str) -> BatchStore:
        """Where a batch is."""
        return self._stores.of(batch_id)

    def home(self, tenant: str) -> BatchStore:
        """Where all batches of a caller are."""
        return self._stores.home(tenant)

    async def create(self, manifest: Manifest, caller: Principal, key: str | None, request_id: str) -> BatchFacts:
        """Accept a manifest as a batch, or find the batch of an earlier request with the same key and manifest.

        Raises InvalidManifest, UnsupportedMediaType, TooManyBatches, IdempotencyKeyReused, QueueUnavailable, Draining.
        """
        if self._draining():
            raise Draining("This process is shutting down. Try again later.", retry_after_s=RETRY_AFTER_S)
        self._webhooks.check(manifest.webhook)
        if manifest.destination is not None:
            self._destinations.check(manifest.destination)
        found = await asyncio.to_thread(
            read_manifest, manifest.media_type, manifest.body, manifest.options, self.limits, self._check
        )
        record = BatchRecord(
            id=self._id(caller.tenant, key),
            owner=caller.tenant,
            key_name=caller.owner,
            identity=caller.identity,
            digest=manifest.digest,
            total=len(found),
            request_id=request_id,
            destination=manifest.destination,
            webhook=manifest.webhook,
        )
        store = self.of(record.id)
        if record.destination is not None and not await self._there(record.id):
            await self._destinations.check_free(record.destination)
        await store.open(record, found)
        await self._durabilities.of(record.id).wait_batch_persisted(record.id)
        log.info("batch_accepted", batch=record.id, lines=record.total, caller=caller.owner)
        self._looking.wake()
        return await store.facts(record.id)

    async def find(self, batch_id: str, allowed: Callable[[str], bool]) -> BatchFacts:
        """How a batch stands whose owner is `allowed`: others do not learn of it. Raises UnknownBatch."""
        facts = await self.of(batch_id).facts(batch_id)
        if not allowed(facts.record.owner):
            raise UnknownBatch(f"No batch has the id {batch_id!r}.")
        return facts

    def expires_at(self, facts: BatchFacts) -> float:
        """When a batch expires, in Unix seconds; at the latest, until it has ended."""
        config = self._config
        ended = facts.created_at + config.batch_deadline_s if facts.ended_at is None else facts.ended_at
        return ended + config.batch_ttl_s

    async def cancel(self, facts: BatchFacts) -> BatchFacts:
        """Cancel what has not ended; a batch that has ended stays as it is."""
        batch_id = facts.record.id
        store = self.of(batch_id)
        if facts.ended_at is None:
            # First the sign, so that the process that drives the batch begins nothing more.
            await store.cancel(batch_id, await self._clocks.of(batch_id).time())
            await end_rest(store, self._lines, batch_id, cancelled())
            log.info("batch_cancelled", batch=batch_id)
        return await store.facts(batch_id)

    async def _there(self, batch_id: str) -> bool:
        """Whether it is a request that is repeated."""
        try:
            await self.of(batch_id).facts(batch_id)
        except UnknownBatch:
            return False
        return True

    def _check(self, url: str, options: JobRequest) -> None:
        self._sources.check(url)
        self._webhooks.check(options.webhook)

    def _id(self, tenant: str, key: str | None) -> str:
        # No Idempotency-Key contains a line feed, so the names of two callers never collide.
        random = uuid4().hex if key is None else hashlib.sha256(f"batch\n{tenant}\n{key}".encode()).hexdigest()[:32]
        return job_id_in(self._stores.home_number(tenant), len(self._stores), random)

    async def _look(self) -> None:
        await self._in_each.run(self._stores, self._look_in)

    async def _look_in(self, store: BatchStore) -> None:
        if self._draining():
            return
        try:
            found = await store.open_ids()
            for batch_id in found:
                if batch_id not in self._driven:
                    await self._drive(store, batch_id)
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)
            return
        for batch_id in [one for one in self._leases if self.of(one) is store and one not in found]:
            del self._leases[batch_id]

    async def _drive(self, store: BatchStore, batch_id: str) -> None:
        """Drive a batch, where no other process does and its caller has not all the places of this one."""
        if batch_id not in self._leases:
            self._leases[batch_id] = store.lease(batch_id, self._beat_s)
        lease = self._leases[batch_id]
        if not await lease.mine():
            return
        with contextlib.suppress(UnknownBatch):
            facts = await store.facts(batch_id)
            identity = facts.record.identity
            if self._driving.take(identity) is not None:
                await lease.end()
                return
            drive = BatchDrive(
                facts,
                store,
                lease,
                self._lines,
                self._delivery,
                self._auth,
                self._clocks.of(batch_id),
                self._draining,
                self._config.batch_concurrency,
                self._config.batch_deadline_s,
                self._beat_s,
            )
            task = asyncio.create_task(drive.run(), name=f"batch-{batch_id}")
            self._driven[batch_id] = _Driven(drive, task)
            task.add_done_callback(partial(self._ended, batch_id, identity))

    def _ended(self, batch_id: str, identity: str, task: asyncio.Task[None]) -> None:
        del self._driven[batch_id]
        self._driving.give_back(identity)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("batch_drive_failed", batch=batch_id, exc_info=error)
        # A caller whose share was used up may have another batch that waits.
        self._looking.wake()
