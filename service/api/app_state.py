"""What the routes share: built by the app factory, kept on the app, handed to routes by dependency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request

from service.api.auth import Authenticator
from service.api.batches.batches import Batches
from service.api.classification import Classifier
from service.api.job_event_stream import JobEventStream
from service.api.job_waiter import JobWaiter
from service.api.listed_keys import ListedKeys
from service.api.live import Live
from service.api.queue_sampler import QueueSampler
from service.api.resumable import ResumableUploads
from service.api.streaming import Streaming
from service.api.upload import UploadsEnd, UploadTimes
from service.api.webhook_sender import Webhooks
from service.queue.durability import Durability
from service.queue.job_list import JobList
from service.queue.job_store import JobStore
from service.queue.live_models import LiveModels
from service.queue.partitions import Partition, PerPartition
from service.queue.result_cache import ResultCache
from service.queue.webhook_queue import WebhookDelivery
from service.video.pool import DecodePool


@dataclass(frozen=True)
class ApiState:
    """Collaborators and limits of one API process."""

    partitions: PerPartition[Partition]
    durabilities: PerPartition[Durability]
    stores: PerPartition[JobStore]
    models: LiveModels
    cache: ResultCache
    classifier: Classifier
    pool: DecodePool
    waiter: JobWaiter
    resumable: ResumableUploads
    max_resumable_bytes: int
    uploads_end: UploadsEnd
    uploads_grace_s: float
    auth: Authenticator
    job_list: JobList
    event_stream: JobEventStream
    streaming: Streaming
    live: Live
    webhooks: Webhooks[WebhookDelivery]
    batches: Batches
    upload_times: UploadTimes
    default_model: str
    fetches_urls: bool
    sync_wait_s: float
    job_deadline_s: float
    queue_sampler: QueueSampler
    metrics_dir: Path | None
    listed_keys: ListedKeys

    def drain(self) -> None:
        """Take no new uploads; let those in flight and callers that wait go in time. Safe in a signal handler."""
        self.waiter.drain()
        self.uploads_end.end_after(self.uploads_grace_s)


async def _state(request: Request) -> ApiState:
    return cast(ApiState, request.app.state.api)


State = Annotated[ApiState, Depends(_state)]
