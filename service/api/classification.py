"""The way of one upload: admit, spool, decode, enqueue."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

import structlog
from fastapi import Request

from service.api.admission import Admission, Admitted
from service.api.auth import Authenticator, Principal
from service.api.decode_scheduler import DecodeScheduler
from service.api.disconnect import cancel_on_disconnect
from service.api.job_waiter import JobWaiter, Submitted
from service.api.request_headers import WaitPolicy
from service.api.shares import Shared
from service.api.spool import Spool, SpoolConfig
from service.api.submission import CacheLookup, Report, Submission, fingerprint, queued, quota_seconds
from service.api.upload import UploadTimes, receive
from service.contracts import DecodedVideo, JobRecord, JobRequest, JobStatus, ModelSpec
from service.errors import DeadlineExceeded, Draining, IdempotencyKeyReused, QueueUnavailable, VideoError, VidtrError
from service.queue.idempotency import Claim, Earlier
from service.queue.job_store import JobStore
from service.queue.result_cache import ResultCache
from service.telemetry import metrics, traces
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool

log = structlog.get_logger()

RETRY_AFTER_S = 2.0


class Classifier:
    """Turns uploads into jobs. Owned by the app, one per process."""

    def __init__(
        self,
        spool: SpoolConfig,
        spooled: Shared,
        times: UploadTimes,
        pool: DecodePool,
        scheduler: DecodeScheduler,
        store: JobStore,
        auth: Authenticator,
        admission: Admission,
        waiter: JobWaiter,
        cache: ResultCache,
    ) -> None:
        self._spool = spool
        self._spooled = spooled
        self._times = times
        self._pool = pool
        self._scheduler = scheduler
        self._store = store
        self._auth = auth
        self._admission = admission
        self._waiter = waiter
        self._cache = cache

    async def submit(
        self,
        request: Request,
        options: JobRequest,
        wait_policy: WaitPolicy,
        key: str | None,
        caller: Principal,
        report: Report = lambda stage, known: None,
    ) -> Submitted:
        """Take the upload in and accept it as a job: when this returns, its record and clips are in Redis.

        `report` is told when the upload is complete (`uploaded`) and when its clips are made (`decoded`).
        Raises what quotas, admission, the upload and the decoding raise; IdempotencyInProgress and
        IdempotencyKeyReused.
        """
        of = Submission(request, options, wait_policy, caller, report)
        of.phases.begin("admission")
        if self._waiter.draining:
            metrics.ADMISSION_REJECTS.labels(Draining.code).inc()
            raise Draining("this process is shutting down", retry_after_s=RETRY_AFTER_S)
        await self._auth.check(caller)
        self._pool.admit(caller.identity)
        claim = None if key is None else await self._admission.earlier(key, of.job_id, caller.tenant)
        if isinstance(claim, Earlier):
            return await self._again(of, claim)
        traces.annotate(job=of.job_id)
        async with (
            self._admission.admit(
                of.job_id,
                options,
                claim,
                wait_policy.deadline_s,
                asynchronous=wait_policy.asynchronous,
                caller=caller.identity,
            ) as admitted,
            # Needed where another upload can be taken for the same.
            self._spool_of(caller, hashed=claim is not None or self._caches(options)) as spool,
        ):
            await self._receive(of, spool)
            spool.expect_clips(admitted.most_clips * admitted.spec.clip_bytes)
            report("uploaded", {"id": of.job_id, "bytes": spool.received})
            recognised = self._recognised(caller, admitted.spec, options, spool)
            if (earlier := await self._earlier(recognised, claim)) is not None:
                of.phases.begin("wait")
                log.info("result_reused", job=earlier.id, caller=caller.owner)
                return Submitted(earlier, keyed=True, cached=True)
            unended = self._waiter.completion(of.job_id)
            accepting = self._accept(of, admitted, spool, recognised)
            # With a key the client will come back for the job; without one nobody will ask for it.
            record = await (accepting if claim is not None else cancel_on_disconnect(request, accepting))
            of.phases.begin("wait")
        clips = len(record.decoded.clips)
        log.info("job_accepted", job=of.job_id, model=record.spec.name, clips=clips, caller=caller.owner)
        return Submitted(queued(record), keyed=claim is not None, unended=unended)

    def _spool_of(self, caller: Principal, *, hashed: bool) -> Spool:
        return Spool(self._spool, hashed=hashed, shared=self._spooled, caller=caller.identity)

    async def _receive(self, of: Submission, spool: Spool) -> None:
        """The upload into the spool. It is counted by the quota of requests once it has found its place."""
        await self._auth.admit(of.caller)
        of.phases.begin("upload")
        with metrics.stage("upload"):
            await receive(of.request, spool, self._times)
        metrics.UPLOAD_BYTES.inc(spool.received)

    async def _accept(self, of: Submission, admitted: Admitted, spool: Spool, recognised: CacheLookup) -> JobRecord:
        upload_ms = of.elapsed_s * 1000
        await self._admission.complete(admitted)
        of.phases.begin("decode")
        with metrics.stage("decode"), metrics.DECODES_IN_PROGRESS.track_inprogress():
            decoded = await self._decode(of, spool, admitted)
        metrics.FRAMES_DECODED.inc(decoded.video.frames_decoded)
        of.phases.begin("enqueue")
        await self._auth.charge(of.caller, quota_seconds(decoded, of.options))
        known = decoded.model_dump(mode="json", exclude={"clip_shape"}, exclude_none=True)
        of.report("decoded", {"id": of.job_id, **known})
        with metrics.stage("enqueue"):
            now = self._waiter.clock.now()
            record = JobRecord(
                id=of.job_id,
                request=of.options,
                spec=admitted.spec,
                decoded=decoded,
                created_at=now - of.elapsed_s,
                enqueued_at=now,
                deadline_at=now + of.left_s,
                upload_ms=upload_ms,
                request_id=of.request.state.request_id,
                job_class=self._admission.job_class(len(decoded.clips), asynchronous=of.wait_policy.asynchronous),
                trace=of.trace,
                owner=of.caller.tenant,
            )
            with HeldClips(spool.clips, len(decoded.clips) * admitted.spec.clip_bytes) as pixels:
                await self._store.accept(
                    record,
                    clips=pixels,
                    reservation=admitted.reservation,
                    claim=admitted.claim,
                    fingerprint=recognised.fingerprint,
                    cache_key=recognised.same,
                    reply_to=self._waiter.reply_to,
                    more_coming=self._scheduler.waiting > 0,
                )
            admitted.accepted = True
        if recognised.same is not None:
            with contextlib.suppress(QueueUnavailable):
                await self._cache.remember(recognised.same, of.job_id)
        return record

    def _caches(self, options: JobRequest) -> bool:
        return self._cache.on and options.webhook is None

    def _recognised(self, caller: Principal, spec: ModelSpec, options: JobRequest, spool: Spool) -> CacheLookup:
        if not spool.hashed:
            return CacheLookup()
        print_ = fingerprint(spool, options)
        same = self._cache.key(caller.tenant, spec, print_) if self._caches(options) else None
        return CacheLookup(print_, same)

    async def _earlier(self, recognised: CacheLookup, claim: Claim | None) -> JobStatus | None:
        """The job that has scored such an upload; the request's Idempotency-Key leads to it from now on."""
        if recognised.same is None:
            return None
        found = await self._cache.find(recognised.same)
        metrics.RESULT_CACHE.labels("miss" if found is None else "hit").inc()
        if found is not None and claim is not None:
            await self._admission.lead(claim, found.id, recognised.fingerprint)
        return found

    async def _again(self, of: Submission, earlier: Earlier) -> Submitted:
        """The job of an earlier request with the same key, once this upload has turned out to be the same."""
        with self._admission.slot(of.caller.identity, of.wait_policy.deadline_s):
            async with self._spool_of(of.caller, hashed=True) as spool:
                await self._receive(of, spool)
                of.report("uploaded", {"id": earlier.job_id, "bytes": spool.received})
                of.phases.begin("wait")
                if fingerprint(spool, of.options) != earlier.fingerprint:
                    detail = "this Idempotency-Key was used for another video or with other options"
                    raise IdempotencyKeyReused(detail)
        return Submitted(await self._store.status(earlier.job_id), keyed=True)

    async def _decode(self, of: Submission, spool: Spool, admitted: Admitted) -> DecodedVideo:
        started: float | None = None
        try:
            async with (
                asyncio.timeout(of.left_s),
                self._scheduler.slot(admitted.reservation.job_class, of.caller.identity),
            ):
                started = time.monotonic()
                return await self._pool.decode(
                    spool.upload,
                    spool.clips,
                    admitted.spec,
                    of.options,
                    of.caller.identity,
                    most_clips=admitted.reservation.clips,
                    job=of.job_id,
                )
        except TimeoutError as error:
            deadline_s = of.wait_policy.deadline_s
            detail = f"the job's deadline of {deadline_s:g} s passed while its video was decoded"
            raise DeadlineExceeded(detail, limit=deadline_s) from error
        except VidtrError as error:
            metrics.DECODE_FAILURES.labels(error.code).inc()
            if isinstance(error, VideoError) and started is not None:
                await self._auth.charge_failed(of.caller, math.ceil(time.monotonic() - started))
            raise
