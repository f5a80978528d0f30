"""Starts the batches of an API process with its app, and ends them with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from service.api.auth import Authenticator
from service.api.batches.batches import Batches, BatchesConfig
from service.api.batches.line import Lines
from service.api.batches.manifest import ManifestLimits
from service.api.batches.results import BatchResults
from service.api.classification import Classifier
from service.api.shares import Shares
from service.api.url_sources import Sources
from service.api.webhook_sender import Webhooks
from service.queue.batch_store import BatchConfig, BatchStore
from service.queue.clock import Clock
from service.queue.durability import Durability
from service.queue.job_store import JobStore
from service.queue.partitions import Partition, PerPartition
from service.queue.result_bus import ResultBus
from service.queue.webhook_queue import WebhookDelivery
from service.settings import Settings
from service.sources.config import BucketConfig
from service.sources.destinations import Destinations


def start_batches(
    settings: Settings,
    stack: contextlib.AsyncExitStack,
    *,
    partitions: PerPartition[Partition],
    durabilities: PerPartition[Durability],
    clocks: PerPartition[Clock],
    jobs: PerPartition[JobStore],
    buses: PerPartition[ResultBus],
    classifier: Classifier,
    auth: Authenticator,
    sources: Sources,
    webhooks: Webhooks[WebhookDelivery],
    shares: Shares,
    draining: Callable[[], bool],
) -> Batches:
    """Batches that are driven from now on, until `stack` ends."""
    config = settings.subset(BatchConfig)
    batches = Batches(
        settings.subset(BatchesConfig),
        settings.subset(ManifestLimits),
        partitions.map(lambda of: BatchStore(of.redis, of.keys, config)),
        durabilities,
        clocks,
        Lines(classifier, jobs, buses, settings.job_deadline_s, config.life_s),
        Destinations(settings.batch_destinations, settings.subset(BucketConfig)),
        BatchResults(jobs),
        auth,
        sources,
        webhooks,
        shares,
        draining,
    )
    batches.start()
    stack.push_async_callback(batches.close)
    return batches
