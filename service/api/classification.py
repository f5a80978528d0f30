"""The way of one upload: admit, spool, decode, enqueue."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import structlog
from fastapi import Request

from service.api.admission import Admission, Admitted
from service.api.callers import Access, Caller
from service.api.connected import while_connected
from service.api.decode_pace import DecodePace
from service.api.job_waiter import JobWaiter, Submitted
from service.api.preferences import Waiting
from service.api.spool import Spool, SpoolConfig
from service.api.upload import UploadTimes, receive
from service.contracts import DecodedVideo, JobRecord, JobRequest, JobState, JobStatus, ModelSpec
from service.errors import (
    DeadlineExceeded,
    Draining,
    IdempotencyKeyReused,
    QueueUnavailable,
    VidtrError,
)
from service.queue.idempotency import Claim, Earlier
from service.queue.jobs import JobStore
from service.queue.result_cache import ResultCache
from service.telemetry import metrics, traces
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool

log = structlog.get_logger()

RETRY_AFTER_S = 2.0

# Called with the name of a stage that is over, and with what is known then.
Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Recognised:
    """What an upload is recognised by; empty where nobody asks."""

    fingerprint: str = ""
    """of its bytes and options"""
    same: str | None = None
    """where the result of such an upload would stand; None without a cache, and where a webhook waits for a job"""


class Classifier:
    """Turns uploads into jobs. Owned by the app, one per process."""

    def __init__(
        self,
        spool: SpoolConfig,
        times: UploadTimes,
        pool: DecodePool,
        pace: DecodePace,
        store: JobStore,
        access: Access,
        admission: Admission,
        waiter: JobWaiter,
        cache: ResultCache,
    ) -> None:
        self._spool = spool
        self._times = times
        self._pool = pool
        self._pace = pace
        self._store = store
        self._access = access
        self._admission = admission
        self._waiter = waiter
        self._cache = cache

    async def submit(
        self,
        request: Request,
        options: JobRequest,
        waiting: Waiting,
        key: str | None,
        caller: Caller,
        report: Report = lambda stage, known: None,
    ) -> Submitted:
        """Take the upload in and accept it as a job: when this returns, its record and clips are in Redis.

        `report` is told when the upload is complete (`uploaded`) and when its clips are made (`decoded`).
        Raises what quotas, admission, the upload and the decoding raise; IdempotencyInProgress and
        IdempotencyKeyReused.
        """
        phases: traces.Phases = request.state.phases
        phases.begin("admission")
        if self._waiter.draining:
            metrics.ADMISSION_REJECTS.labels(Draining.code).inc()
            raise Draining("this process is shutting down", retry_after_s=RETRY_AFTER_S)
        await self._access.admit(caller)
        job_id = uuid4().hex
        claim = None if key is None else await self._admission.earlier(key, job_id, caller.owner)
        if isinstance(claim, Earlier):
            return await self._again(request, options, claim, report)
        created_at = time.time()
        trace = traces.traceparent()
        traces.annotate(job=job_id)
        async with (
            self._admission.admit(
                job_id, options, claim, waiting.deadline_s, asynchronous=waiting.asynchronous
            ) as admitted,
            # Needed where another upload can be taken for the same.
            Spool(self._spool, hashed=claim is not None or self._caches(options)) as spool,
        ):
            phases.begin("upload")
            with metrics.stage("upload"):
                await receive(request, spool, self._times)
            metrics.UPLOAD_BYTES.inc(spool.received)
            spool.expect_clips(admitted.reservation.clips * admitted.spec.clip_bytes)
            report("uploaded", {"id": job_id, "bytes": spool.received})
            recognised = self._recognised(caller, admitted.spec, options, spool)
            if (earlier := await self._earlier(recognised, claim)) is not None:
                phases.begin("wait")
                log.info("result_reused", job=earlier.id, caller=caller.owner)
                return Submitted(earlier, keyed=True, cached=True)
            unended = self._waiter.end_of(job_id)
            accepting = self._accept(
                request, options, waiting, caller, admitted, spool, created_at, trace, report, recognised
            )
            # With a key the client will come back for the job; without one nobody will ask for it.
            record = await (accepting if claim is not None else while_connected(request, accepting))
            phases.begin("wait")
        clips = len(record.decoded.clips)
        log.info("job_accepted", job=job_id, model=record.spec.name, clips=clips, caller=caller.owner)
        return Submitted(_queued(record), keyed=claim is not None, unended=unended)

    async def _accept(
        self,
        request: Request,
        options: JobRequest,
        waiting: Waiting,
        caller: Caller,
        admitted: Admitted,
        spool: Spool,
        created_at: float,
        trace: str,
        report: Report,
        recognised: Recognised,
    ) -> JobRecord:
        spec, job_id = admitted.spec, admitted.reservation.job_id
        upload_ms = (time.time() - created_at) * 1000
        deadline_at = created_at + waiting.deadline_s
        phases: traces.Phases = request.state.phases
        phases.begin("decode")
        with metrics.stage("decode"), metrics.DECODES_IN_PROGRESS.track_inprogress():
            decoded = await self._decode(spool, admitted, options, caller, deadline_at, waiting.deadline_s)
        metrics.FRAMES_DECODED.inc(decoded.video.frames_decoded)
        phases.begin("enqueue")
        await self._access.charge(caller, _seconds(decoded, options))
        report("decoded", {"id": job_id, **decoded.model_dump(mode="json", exclude={"clip_shape"}, exclude_none=True)})
        with metrics.stage("enqueue"):
            clips = len(decoded.clips)
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
                job_class=self._admission.job_class(clips, asynchronous=waiting.asynchronous),
                trace=trace,
                owner=caller.owner,
            )
            with HeldClips(spool.clips, clips * spec.clip_bytes) as pixels:
                await self._store.accept(
                    record,
                    clips=pixels,
                    reservation=admitted.reservation,
                    claim=admitted.claim,
                    fingerprint=recognised.fingerprint,
                    same=recognised.same,
                    home=self._waiter.home,
                    followed=self._pace.waiting > 0,
                )
            admitted.accepted = True
        if recognised.same is not None:
            with contextlib.suppress(QueueUnavailable):
                await self._cache.remember(recognised.same, job_id)
        return record

    def _caches(self, options: JobRequest) -> bool:
        return self._cache.on and options.webhook is None

    def _recognised(self, caller: Caller, spec: ModelSpec, options: JobRequest, spool: Spool) -> Recognised:
        if not spool.hashed:
            return Recognised()
        fingerprint = _fingerprint(spool, options)
        same = self._cache.key(caller.owner, spec, fingerprint) if self._caches(options) else None
        return Recognised(fingerprint, same)

    async def _earlier(self, recognised: Recognised, claim: Claim | None) -> JobStatus | None:
        """The job that has scored such an upload; the request's Idempotency-Key leads to it from now on."""
        if recognised.same is None:
            return None
        found = await self._cache.find(recognised.same)
        metrics.RESULT_CACHE.labels("miss" if found is None else "hit").inc()
        if found is not None and claim is not None:
            await self._admission.lead(claim, found.id, recognised.fingerprint)
        return found

    async def _again(self, request: Request, options: JobRequest, earlier: Earlier, report: Report) -> Submitted:
        phases: traces.Phases = request.state.phases
        async with Spool(self._spool) as spool:
            phases.begin("upload")
            await receive(request, spool, self._times)
            report("uploaded", {"id": earlier.job_id, "bytes": spool.received})
            phases.begin("wait")
            if _fingerprint(spool, options) != earlier.fingerprint:
                detail = "this Idempotency-Key was used for another video or with other options"
                raise IdempotencyKeyReused(detail)
        return Submitted(await self._store.status(earlier.job_id), keyed=True)

    async def _decode(
        self,
        spool: Spool,
        admitted: Admitted,
        options: JobRequest,
        caller: Caller,
        deadline_at: float,
        deadline_s: float,
    ) -> DecodedVideo:
        try:
            async with (
                asyncio.timeout(max(0.0, deadline_at - time.time())),
                self._pace.turn(admitted.reservation.job_class),
            ):
                return await self._pool.decode(
                    spool.upload,
                    spool.clips,
                    admitted.spec,
                    options,
                    caller.identity,
                    most_clips=admitted.reservation.clips,
                )
        except TimeoutError as error:
            detail = f"the job's deadline of {deadline_s:g} s passed while its video was decoded"
            raise DeadlineExceeded(detail, limit=deadline_s) from error
        except VidtrError as error:
            metrics.DECODE_FAILURES.labels(error.code).inc()
            raise


def _seconds(decoded: DecodedVideo, options: JobRequest) -> int:
    """Seconds of the part that was asked for, rounded up: what a quota counts."""
    duration_s = decoded.video.duration_s
    end_s = duration_s if options.end is None else min(options.end, duration_s)
    return max(1, math.ceil(end_s - (options.start or 0.0)))


def _fingerprint(spool: Spool, options: JobRequest) -> str:
    return hashlib.sha256(f"{spool.sha256} {options.model_dump_json()}".encode()).hexdigest()


def _queued(record: JobRecord) -> JobStatus:
    """How a job stands that was accepted just now. Not asked of Redis: it may be gone while the job is not."""
    return JobStatus(
        id=record.id,
        status=JobState.QUEUED,
        created_at=record.created_at,
        deadline_at=record.deadline_at,
        clips_total=len(record.decoded.clips),
        clips_done=0,
        model=record.spec.name,
        version=record.spec.version,
    )
