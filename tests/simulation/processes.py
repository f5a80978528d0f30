"""API and worker processes: the service's own stores, admission, waiting, webhooks and worker loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from service.api.admission import Admission, AdmissionConfig
from service.api.job_waiter import JobWaiter
from service.api.overdue import Overdue
from service.api.webhook_sender import WebhookConfig, Webhooks
from service.periodic import Periodic
from service.queue.capacity import CapacityConfig, QueueCapacity
from service.queue.claims import Claims
from service.queue.clock import Clock
from service.queue.connection import connect
from service.queue.dead_letters import DeadLetterConfig, DeadLetters
from service.queue.durability import Durability, DurabilityConfig
from service.queue.idempotency import IdempotencyConfig, IdempotencyKeys
from service.queue.job_intake import JobTtlConfig
from service.queue.job_list import JobList
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.live_streams import LiveStreams
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, PerPartition
from service.queue.quota import Quotas
from service.queue.result_bus import ResultBus
from service.queue.result_cache import ResultCache
from service.queue.stream_webhooks import StreamWebhookQueue
from service.queue.webhook_queue import WebhookQueue
from service.video.decode_scheduler import DecodeScheduler
from service.worker.completion import Completion
from service.worker.config import WorkerConfig
from service.worker.partition_source import Source
from service.worker.watchdog import Watchdog
from service.worker.worker import Worker
from tests.simulation import batches, client, live
from tests.simulation.backend import Backend
from tests.simulation.clock import skew
from tests.simulation.plan import LEASE_S
from tests.simulation.releases import WatchedStream, earlier
from tests.simulation.scheduler import Process, request
from tests.simulation.server import in_simulated_time
from tests.simulation.wire import SimulatedConnection

if TYPE_CHECKING:
    from tests.simulation.world import World

RESERVED_S = 3.0
TIMES = JobTtlConfig(
    payload_ttl_s=300,
    result_ttl_s=600,
    tombstone_ttl_s=7200,
    idempotency_ttl_s=7200,
    reservation_ttl_s=RESERVED_S,
)
LETTERS = DeadLetterConfig(dead_letter_ttl_s=7200, dead_letter_max_jobs=50, dead_letter_max_bytes=1 << 20)
MOST_CLIPS = 12
CACHED_S = 600
HOOK = WebhookConfig(
    webhook_secret="whsec_c2ltdWxhdGVk",  # noqa: S106 - nothing is signed
    webhook_private_targets=True,
    webhook_timeout_s=1.0,
    webhook_retry_s=1.0,
    webhook_give_up_s=7200.0,
    webhook_concurrency=4,
)


class Leisurely(WorkerConfig):
    """Looks for lost work less often: half of a schedule would be idle looks."""

    @property
    def reclaim_every_s(self) -> float:
        return LEASE_S


WORKER = Leisurely(
    worker_block_ms=int(LEASE_S * 1000),
    worker_lease_s=LEASE_S,
    worker_max_deliveries=3,
    worker_heartbeat_s=6.0,
    worker_interactive_weight=2,
    worker_bulk_batch_ms=0,
    worker_batch_delay_ms=0,
    worker_batches_in_flight=1,
    breaker_failures=3,
    breaker_open_s=1.0,
)
LOOK_S, UPKEEP_S = 1.5, 2.5


def connected(world: World, process: Process) -> PerPartition[Partition]:
    """Clients as the service makes them."""
    return PerPartition(Partition(_client(world, process, number), keys) for number, keys in enumerate(world.keys))


def _client(world: World, process: Process, partition: int) -> Redis:
    """A client whose commands the scheduler orders."""
    client = connect("unix:///simulated", name=process.name)
    client.connection_pool.connection_class = SimulatedConnection
    client.connection_pool.connection_kwargs = {
        **client.connection_pool.connection_kwargs,
        "step": lambda commands: world.scheduler.step(process, partition, commands),
        "health_check_interval": 0,
        # ClipExplanation up in the metadata of packages, again for each connection.
        "driver_info": None,
    }
    return in_simulated_time(client, world.server)


def _directory(partition: Partition) -> ModelDirectory:
    directory = ModelDirectory(partition.redis, partition.keys)
    # Its own was bound to the machine's clock before there was a simulation.
    directory.clock = Clock(partition.redis, time.monotonic)
    return directory


def begin(
    world: World, process: Process, work: Coroutine[Any, Any, None], name: str, *, of_earlier: bool = False
) -> asyncio.Task[None]:
    """Run `work` as a task of the process: with its clock and its release, and ended with the simulation."""
    context = copy_context()
    context.run(skew.set, lambda: process.skew_s)
    context.run(earlier.set, of_earlier)
    context.run(request.set, "")
    task = asyncio.get_running_loop().create_task(work, name=name, context=context)
    world.tasks.append(task)
    return task


class Api:
    """What an API process has to do with the queue."""

    def __init__(self, world: World, number: int) -> None:
        self.process = Process(f"a{number}")
        self.partitions = partitions = connected(world, self.process)
        self.stores = partitions.map(lambda of: JobStore(of.redis, of.keys, TIMES))
        directories = partitions.map(_directory)
        self.clocks = directories.map(lambda directory: directory.clock)
        times = IdempotencyConfig(TIMES.idempotency_ttl_s, RESERVED_S)
        claims = Claims(partitions.map(lambda of: IdempotencyKeys(of.redis, of.keys, times)), self.stores)
        self.limits = CapacityConfig(
            max_queue_clips=MOST_CLIPS,
            max_queue_bytes=1 << 20,
            max_wait_share=1.0,
            reservation_ttl_s=RESERVED_S,
            worker_interactive_weight=2,
            caller_share=0.75,
        ).share(len(partitions))
        config = AdmissionConfig(
            default_model="tiny",
            max_auto_windows=3,
            max_clips_per_job=3,
            max_evidence_forwards=100,
            max_spatial_cells=500_000,
            max_concurrent_uploads=8,
            max_wait_share=1.0,
            bulk_clips=2,
            reservation_ttl_s=RESERVED_S,
            reservation_start_clips=1,
        )
        self.scheduler = DecodeScheduler(4)
        capacity = partitions.map(lambda of: QueueCapacity(of.redis, of.keys, self.limits))
        self.admission = Admission(config, LiveModels(directories), capacity, claims, self.scheduler)
        self.buses = PerPartition(
            ResultBus(of.redis, of.keys, store) for of, store in zip(partitions, self.stores, strict=True)
        )
        durabilities = partitions.map(lambda of: Durability(of.redis, of.keys, DurabilityConfig(1.0)))
        self.waiter = JobWaiter(self.stores, self.buses, durabilities, 1.0, self.clocks)
        self.cache = ResultCache(partitions, self.stores, CACHED_S)
        self.dead = partitions.map(lambda of: DeadLetters(of.redis, of.keys, TIMES, LETTERS))
        self.listing = JobList(partitions)
        self.quotas = partitions.map(lambda of: Quotas(of.redis, of.keys))
        self.webhooks = Webhooks(HOOK, partitions.map(lambda of: WebhookQueue(of.redis, of.keys)))
        sweeps = [Overdue(*of).sweep for of in zip(self.stores, directories, strict=True)]
        beside: Sequence[Periodic] = (
            Periodic("admission", RESERVED_S / 3, self.admission._renew),
            *(Periodic("overdue", UPKEEP_S, sweep) for sweep in sweeps),
            Periodic("webhooks", LOOK_S, self.webhooks._begin),
        )
        for work in beside:
            begin(world, self.process, work._run(), work._name)
        self.live = partitions.map(lambda of: LiveStreams(of.redis, of.keys, live.TIMES))
        self.holder = f"a{number}-{next(world.lives)}"
        self.opening = asyncio.Lock()
        self.driven: set[str] = set()
        """live streams that it tells of"""
        if any(op.kind == "stream" for op in world.plan.ops):
            streams = Webhooks(HOOK, partitions.map(lambda of: StreamWebhookQueue(of.redis, of.keys)))
            adopting = Periodic("live-streams", live.ADOPT_S, partial(live.adopt, world, self))
            for work in (adopting, Periodic("webhooks", LOOK_S, streams._begin)):
                begin(world, self.process, work._run(), work._name)
        self.batches = batches.driven_by(world, self, client.upload)
        if any(op.kind == "batch" for op in world.plan.ops):
            told = Webhooks(HOOK, partitions.map(lambda of: WebhookQueue(of.redis, of.keys, "batch")))
            driving = Periodic("batches", batches.LOOK_S, self.batches._look)
            for work in (driving, Periodic("webhooks", LOOK_S, told._begin)):
                begin(world, self.process, work._run(), work._name)


class WorkerProcess:
    """A worker that serves the backend of the simulation."""

    def __init__(self, world: World, number: int, life: int) -> None:
        self.process = Process(f"w{number}")
        self.masks = world.plan.masks(number, life)
        partitions = connected(world, self.process)

        def source(of: Partition) -> Source:
            stream = WatchedStream(of.redis, of.keys, f"w{number}-{life}", world.ledger)
            directory, dead = _directory(of), DeadLetters(of.redis, of.keys, TIMES, LETTERS)
            completion = Completion(JobStore(of.redis, of.keys, TIMES), stream, dead, directory.clock)
            return Source(stream, directory, completion, LEASE_S)

        worker = Worker(
            replace(WORKER, worker_batches_in_flight=world.plan.in_flight),
            Backend(world.mended),
            partitions.map(source),
            Watchdog(1e9, lambda: 0.0),
        )
        self.worker = worker
        self.process.stop = worker.stop
        begin(world, self.process, self._run(), "work", of_earlier=not self.masks)

    async def _run(self) -> None:
        await self.worker.run()
        # Another is started in its place.
        self.process.died.set()
