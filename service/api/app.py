"""The app factory: reads Settings, builds what the routes need, and takes it down again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

import service
from service.api import cors, example_endpoint, openapi_document, problems, swagger, web_ui
from service.api.admission import Admission, AdmissionConfig
from service.api.api_keys import ApiKeyConfig, ApiKeyStore
from service.api.app_state import ApiState
from service.api.auth import AuthConfig, Authenticator
from service.api.batches.starting import start_batches
from service.api.classification import Classifier
from service.api.decoding import start_decoding
from service.api.early_response import EarlyResponseMiddleware
from service.api.head_requests import HeadRequests
from service.api.job_event_stream import JobEventStream
from service.api.job_waiter import JobWaiter
from service.api.listed_keys import ListedKeys
from service.api.live import build_live
from service.api.middleware import RequestContext
from service.api.origin import ANY, Origins
from service.api.overdue import Overdue
from service.api.queue_sampler import QueueSampler
from service.api.resumable import ResumableUploads
from service.api.resumable_store import ResumableConfig, ResumableStore
from service.api.routes import (
    batches_route,
    classify_route,
    export_route,
    jobs_route,
    models_route,
    operations_route,
    signing_keys_route,
    streams_route,
    uploads_route,
)
from service.api.shares import Shares
from service.api.spool import SpoolConfig
from service.api.streaming import Streaming
from service.api.upload import References, UploadReceiver, UploadsEnd, UploadTimes
from service.api.url_sources import Sources
from service.api.webhook_sender import WebhookConfig, Webhooks
from service.errors import QueueUnavailable, sentence
from service.periodic import Periodic
from service.queue.capacity import CapacityConfig, QueueCapacity
from service.queue.claims import Claims
from service.queue.durability import Durability, DurabilityConfig
from service.queue.events import JobEvents
from service.queue.idempotency import IdempotencyConfig, IdempotencyKeys
from service.queue.job_intake import JobTtlConfig
from service.queue.job_list import JobList
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import PerPartition, QueueAddress, close
from service.queue.quota import Quotas
from service.queue.result_bus import ResultBus
from service.queue.result_cache import ResultCache
from service.queue.stream_webhooks import StreamWebhookQueue
from service.queue.webhook_queue import WebhookQueue
from service.settings import Settings
from service.signing_keys import published_keys
from service.sources.buckets import Buckets
from service.sources.config import BucketConfig, SourceConfig

log = structlog.get_logger()

KEYS_REFRESH_S = 2.0

# Share of the shutdown grace that callers are kept waiting before they are sent off with a 202.
DRAIN_WAIT_SHARE = 0.5
# The end of the grace, in which the last uploads are decoded, queued and answered: seconds, or a share if that is less.
ANSWER_S = 10.0
ANSWER_SHARE = 0.25


def create_app(settings: Settings) -> FastAPI:
    """The API. Redis and the decode processes are reached when it starts, not before."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            app.state.api = await _build(settings, stack)
            yield

    app = FastAPI(
        title="vidtr-serve",
        summary="Video classification with temporal attention",
        version=service.__version__,
        lifespan=lifespan,
        root_path=settings.root_path,
        # FastAPI's own pages load their viewers from other hosts.
        docs_url=None,
        redoc_url=None,
        # Their `Location` would name a host, a scheme and a path that the proxy in front of the service does not have.
        redirect_slashes=False,
    )
    auth = settings.subset(AuthConfig)
    names = settings.allowed_hosts or (() if auth.loopback else (ANY,))
    app.add_middleware(HeadRequests)
    app.add_middleware(Origins, names=names, origins=settings.cors_origins)
    app.add_middleware(EarlyResponseMiddleware)
    app.add_middleware(RequestContext)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **cors.middleware_options(settings.cors_origins))
    problems.install(app)
    routes = (
        classify_route,
        uploads_route,
        streams_route,
        batches_route,
        jobs_route,
        export_route,
        models_route,
        signing_keys_route,
        operations_route,
    )
    for module in routes:
        app.include_router(module.router)
    if not settings.api_metrics_port:
        app.include_router(operations_route.metrics_router)
    web_ui.install(app)
    example_endpoint.install(app)
    swagger.install(app)
    openapi_document.install(app, key_needed=not auth.open)
    return app


async def _build(settings: Settings, stack: contextlib.AsyncExitStack) -> ApiState:
    listed_keys = ListedKeys(published_keys(settings.signing_key_file, settings.signing_public_keys_file))
    address = settings.subset(QueueAddress)
    partitions, listening = address.connect("vidtr-api"), address.connect("vidtr-api-bus")
    stack.push_async_callback(close, [*partitions, *listening])
    durabilities = partitions.map(lambda of: Durability(of.redis, of.keys, settings.subset(DurabilityConfig)))
    stores = partitions.map(lambda of: JobStore(of.redis, of.keys, settings.subset(JobTtlConfig)))
    directories = partitions.map(lambda of: ModelDirectory(of.redis, of.keys))
    clocks, models = directories.map(lambda directory: directory.clock), LiveModels(directories)
    buses = PerPartition(ResultBus(of.redis, of.keys, store) for of, store in zip(listening, stores, strict=True))
    for bus in buses:
        await bus.start()
        stack.push_async_callback(bus.close)
    spool_dir = settings.spool_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidtr-spool-")))
    spool_dir.mkdir(parents=True, exist_ok=True)
    await _announce(durabilities)
    pool = await start_decoding(settings, stack)
    sampler = QueueSampler(partitions, models, settings.metrics_sample_s)
    sampler.start()
    stack.push_async_callback(sampler.close)
    api_keys = ApiKeyStore(settings.subset(ApiKeyConfig))
    api_keys.load()
    auth = Authenticator(settings.subset(AuthConfig), api_keys, partitions.map(lambda of: Quotas(of.redis, of.keys)))
    auth.log_policy()
    shares = Shares(settings.caller_share, lambda: auth.only_one)
    for store, directory in zip(stores, directories, strict=True):
        overdue = Overdue(store, directory)
        overdue.start()
        stack.push_async_callback(overdue.close)
    limits = settings.subset(CapacityConfig).share(len(partitions))
    times = settings.subset(IdempotencyConfig)
    admission = Admission(
        settings.subset(AdmissionConfig).within(limits.max_queue_clips),
        models,
        partitions.map(lambda of: QueueCapacity(of.redis, of.keys, limits)),
        Claims(partitions.map(lambda of: IdempotencyKeys(of.redis, of.keys, times)), stores),
        pool.scheduler,
        shares,
    )
    admission.start()
    stack.push_async_callback(admission.close)
    refreshing = Periodic("api-keys", KEYS_REFRESH_S, api_keys.refresh)
    refreshing.start()
    stack.push_async_callback(refreshing.close)
    webhook_queues = partitions.map(lambda of: WebhookQueue(of.redis, of.keys))
    webhooks = Webhooks(settings.subset(WebhookConfig), webhook_queues, shares=shares)
    batch_queues = partitions.map(lambda of: WebhookQueue(of.redis, of.keys, "batch"))
    stream_queues = partitions.map(lambda of: StreamWebhookQueue(of.redis, of.keys))
    for sender in (
        webhooks,
        Webhooks(settings.subset(WebhookConfig), batch_queues, shares=shares),
        Webhooks(settings.subset(WebhookConfig), stream_queues, shares=shares),
    ):
        sender.start()
        stack.push_async_callback(sender.close)
    grace_s = settings.shutdown_grace_s
    waiter = JobWaiter(stores, buses, durabilities, grace_s * DRAIN_WAIT_SHARE, clocks)
    spool = SpoolConfig(spool_dir, settings.max_upload_bytes, settings.spool_min_free_bytes, settings.hash_uploads)
    upload_times, uploads_end = settings.subset(UploadTimes), UploadsEnd()
    stored = ResumableStore(spool_dir / "resumable", settings.subset(ResumableConfig), shares)
    resumable = ResumableUploads(stored, upload_times, uploads_end, admission.receiving)
    resumable.start()
    stack.push_async_callback(resumable.close)
    most_sources = settings.max_concurrent_sources or max(1, pool.processes - 1)
    buckets = Buckets(settings.subset(BucketConfig))
    sources = Sources(settings.subset(SourceConfig), buckets, shares.of("sources", most_sources))
    references = References(resumable.adopt, sources.open)
    uploads = UploadReceiver(spool, shares.of("spool", 0), upload_times, references, uploads_end)
    cache = ResultCache(partitions, stores, min(settings.result_cache_s, settings.result_ttl_s))
    classifier = Classifier(
        uploads,
        pool,
        stores,
        auth,
        admission,
        buses,
        cache,
        lambda: waiter.draining,
        clocks,
    )
    batches = start_batches(
        settings,
        stack,
        partitions=partitions,
        durabilities=durabilities,
        clocks=clocks,
        jobs=stores,
        buses=buses,
        classifier=classifier,
        auth=auth,
        sources=sources,
        webhooks=webhooks,
        shares=shares,
        draining=lambda: waiter.draining,
    )
    places = shares.of("followers", settings.max_followers)
    events = partitions.map(lambda of: JobEvents(of.redis, of.keys))
    event_stream = JobEventStream(events, buses, lambda: waiter.draining, clocks, places)
    live = build_live(
        settings,
        stack,
        partitions,
        clocks,
        stores,
        buses,
        pool,
        spool_dir,
        admission,
        auth,
        shares,
        places,
        uploads_end,
        webhooks.check,
        lambda: waiter.draining,
    )
    return ApiState(
        partitions=partitions,
        durabilities=durabilities,
        stores=stores,
        models=models,
        cache=cache,
        classifier=classifier,
        pool=pool,
        waiter=waiter,
        resumable=resumable,
        max_resumable_bytes=settings.max_resumable_bytes,
        uploads_end=uploads_end,
        uploads_grace_s=grace_s - min(ANSWER_S, ANSWER_SHARE * grace_s),
        auth=auth,
        webhooks=webhooks,
        batches=batches,
        upload_times=upload_times,
        job_list=JobList(partitions),
        event_stream=event_stream,
        live=live,
        streaming=Streaming(classifier, waiter, event_stream, stores, models),
        default_model=settings.default_model,
        fetches_urls=sources.on,
        sync_wait_s=settings.sync_wait_s,
        job_deadline_s=settings.job_deadline_s,
        queue_sampler=sampler,
        metrics_dir=settings.prometheus_multiproc_dir,
        listed_keys=listed_keys,
    )


async def _announce(durabilities: PerPartition[Durability]) -> None:
    for number, durability in enumerate(durabilities):
        partition = {"partition": number} if len(durabilities) > 1 else {}
        try:
            missing = await durability.unavailable_reason()
        except QueueUnavailable as error:
            missing = error.detail
        if missing is not None and durability.required:
            log.error("durability", waits_for_disk=False, detail=f"No 202 is given: {sentence(missing)}", **partition)
            continue
        detail = missing or "a 202 waits until Redis has its job where it is safe"
        log.info("durability", waits_for_disk=missing is None, detail=detail, **partition)
