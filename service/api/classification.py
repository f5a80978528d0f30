"""The way of one upload: admit, spool, decode, enqueue, wait."""

from __future__ import annotations

import asyncio
import mmap
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog
from fastapi import Request

from service.api.preferences import Waiting
from service.api.spool import Spool, SpoolConfig
from service.api.upload import receive
from service.contracts import DecodedVideo, JobRecord, JobRequest, ModelSpec
from service.errors import DeadlineExceeded, Draining, QueueFull, VidtrError
from service.queue.bus import ResultBus
from service.queue.codec import Outcome
from service.queue.jobs import JobStore
from service.queue.models import ModelDirectory
from service.telemetry import metrics
from service.video.pool import DecodePool

log = structlog.get_logger()

RETRY_AFTER_S = 2.0


@dataclass(frozen=True)
class ClassificationConfig:
    """Limits of the api that are not the spool's."""

    default_model: str
    max_queue_clips: int
    drain_wait_s: float


class Classifier:
    """Turns uploads into jobs and waits for them. Owned by the app, one per process."""

    def __init__(
        self,
        config: ClassificationConfig,
        spool: SpoolConfig,
        pool: DecodePool,
        store: JobStore,
        directory: ModelDirectory,
        bus: ResultBus,
    ) -> None:
        self._config = config
        self._spool = spool
        self._pool = pool
        self._store = store
        self._directory = directory
        self._bus = bus
        self._draining = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether the process is shutting down."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Refuse new uploads, and let waiting callers go with a 202 once `drain_wait_s` has passed."""
        self._draining.set()

    async def submit(self, request: Request, options: JobRequest, waiting: Waiting) -> JobRecord:
        """Take the upload in and accept it as a job: when this returns, its record and clips are in Redis."""
        created_at = time.time()
        spec = await self._admit(options)
        job_id = uuid4().hex
        async with Spool(self._spool) as spool:
            with metrics.stage("upload"):
                await receive(request, spool)
            upload_ms = (time.time() - created_at) * 1000
            metrics.UPLOAD_BYTES.inc(spool.received)
            deadline_at = created_at + waiting.deadline_s
            with metrics.stage("decode"), metrics.DECODES_IN_PROGRESS.track_inprogress():
                decoded = await self._decode(spool, spec, options, deadline_at, waiting.deadline_s)
            metrics.FRAMES_DECODED.inc(decoded.video.frames_decoded)
            with metrics.stage("enqueue"):
                await self._put_payloads(job_id, spool.clips, spec)
                record = JobRecord(
                    id=job_id,
                    request=options,
                    spec=spec,
                    decoded=decoded,
                    created_at=created_at,
                    enqueued_at=time.time(),
                    deadline_at=deadline_at,
                    upload_ms=upload_ms,
                    request_id=request.state.request_id,
                )
                await self._store.accept(record)
        log.info("job_accepted", job=job_id, model=spec.name, clips=len(decoded.clips))
        return record

    async def _admit(self, options: JobRequest) -> ModelSpec:
        try:
            with metrics.stage("admission"):
                if self.draining:
                    raise Draining("this process is shutting down", retry_after_s=RETRY_AFTER_S)
                spec = await self._directory.resolve(options.model or self._config.default_model, options.version)
                await self._check_room(spec)
                return spec
        except VidtrError as error:
            metrics.ADMISSION_REJECTS.labels(error.code).inc()
            raise

    async def wait(self, record: JobRecord, waiting: Waiting) -> Outcome | None:
        """The job's outcome; None when the caller's wait is over first. Raises DeadlineExceeded."""
        deadline_s = max(0.0, record.deadline_at - time.time())
        outcome = await self._wait_unless_drained(record.id, min(waiting.wait_s, deadline_s))
        if outcome is None and time.time() >= record.deadline_at:
            detail = f"the job's deadline of {waiting.deadline_s:g} s passed before its result"
            raise DeadlineExceeded(detail, limit=waiting.deadline_s)
        return outcome

    async def _wait_unless_drained(self, job_id: str, timeout_s: float) -> Outcome | None:
        result = asyncio.ensure_future(self._bus.wait(job_id, timeout_s))
        drained = asyncio.ensure_future(self._drained())
        try:
            await asyncio.wait((result, drained), return_when=asyncio.FIRST_COMPLETED)
            return await result if result.done() else None
        finally:
            drained.cancel()
            result.cancel()

    async def _drained(self) -> None:
        await self._draining.wait()
        await asyncio.sleep(self._config.drain_wait_s)

    async def _check_room(self, spec: ModelSpec) -> None:
        waiting = await self._store.waiting(spec.name)
        if waiting >= self._config.max_queue_clips:
            detail = f"{waiting} clips wait for model {spec.name}; at most {self._config.max_queue_clips} may"
            raise QueueFull(detail, limit=self._config.max_queue_clips, actual=waiting, retry_after_s=RETRY_AFTER_S)

    async def _decode(
        self, spool: Spool, spec: ModelSpec, options: JobRequest, deadline_at: float, deadline_s: float
    ) -> DecodedVideo:
        try:
            async with asyncio.timeout(max(0.0, deadline_at - time.time())):
                return await self._pool.decode(spool.upload, spool.clips, spec, options)
        except TimeoutError as error:
            detail = f"the job's deadline of {deadline_s:g} s passed while its video was decoded"
            raise DeadlineExceeded(detail, limit=deadline_s) from error
        except VidtrError as error:
            metrics.DECODE_FAILURES.labels(error.code).inc()
            raise

    async def _put_payloads(self, job_id: str, path: Path, spec: ModelSpec) -> None:
        with path.open("rb") as file:
            # Not closed by hand: a failed send keeps views of it alive in its traceback, and closing would then raise.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        await self._store.put_payloads(job_id, memoryview(mapped), spec.clip_bytes)
