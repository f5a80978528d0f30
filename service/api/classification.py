"""From an upload to a job: admit, spool, decode, enqueue."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from service.api.admission import Admission, Admitted
from service.api.auth import Authenticator
from service.api.disconnect import cancel_on_disconnect
from service.api.spool import Spool
from service.api.submission import CacheLookup, Submission, Submitted, fingerprint, queued, quota_seconds
from service.api.upload import UploadReceiver
from service.contracts import DecodedVideo, JobRecord, JobRequest, JobStatus, ModelSpec
from service.errors import (
    RETRY_AFTER_S,
    DeadlineExceeded,
    Draining,
    IdempotencyKeyReused,
    QueueUnavailable,
    VideoError,
    VidtrError,
)
from service.queue.clock import Clock
from service.queue.idempotency import Claim, Earlier
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus
from service.queue.result_cache import ResultCache
from service.telemetry import metrics, traces
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool

log = structlog.get_logger()


class Classifier:
    """Turns uploads into jobs. Owned by the app, one per process."""

    def __init__(
        self,
        uploads: UploadReceiver,
        pool: DecodePool,
        stores: PerPartition[JobStore],
        auth: Authenticator,
        admission: Admission,
        buses: PerPartition[ResultBus],
        cache: ResultCache,
        draining: Callable[[], bool],
        clocks: PerPartition[Clock],
    ) -> None:
        """`draining` says whether the process is shutting down."""
        self._uploads = uploads
        self._pool = pool
        self._stores = stores
        self._auth = auth
        self._admission = admission
        self._buses = buses
        self._cache = cache
        self._draining = draining
        self._clocks = clocks

    async def submit(self, submission: Submission) -> Submitted:
        """Receive the upload and accept it as a job: when this returns, its record and clips are in Redis.

        Raises what quotas, admission, the upload and the decoding raise; IdempotencyInProgress and
        IdempotencyKeyReused.
        """
        caller, options, key = submission.caller, submission.options, submission.idempotency_key
        submission.phases.begin("admission")
        if self._draining():
            metrics.ADMISSION_REJECTS.labels(Draining.code).inc()
            raise Draining("This process is shutting down. Try again later.", retry_after_s=RETRY_AFTER_S)
        await self._auth.check(caller)
        self._pool.admit(caller.identity)
        claim = None if key is None else await self._admission.earlier(key, caller.tenant)
        if isinstance(claim, Earlier):
            return await self._repeat(submission, claim)
        async with (
            self._admission.admit(
                options,
                claim,
                submission.wait_policy.deadline_s,
                asynchronous=submission.wait_policy.asynchronous,
                caller=caller.identity,
            ) as admitted,
            # A hash is needed only where another upload may turn out to be the same.
            self._uploads.spool(caller.identity, hashed=claim is not None or self._caches(options)) as spool,
        ):
            submission = replace(submission, job_id=admitted.job_id)
            traces.annotate(job=submission.job_id)
            await self._receive(submission, spool)
            spool.expect_clips(admitted.most_clips * admitted.spec.clip_bytes)
            submission.report("uploaded", {"id": submission.job_id, "bytes": spool.received})
            lookup = self._lookup(submission, admitted.spec, spool)
            if (earlier := await self._cached(lookup, claim)) is not None:
                submission.phases.begin("wait")
                log.info("result_reused", job=earlier.id, caller=caller.owner)
                return Submitted(earlier, keyed=True, cached=True)
            unended = self._buses.of(submission.job_id).completion(submission.job_id)
            accepting = self._accept(submission, admitted, spool, lookup)
            # With a key the client can come back for the job; without one the job is lost with its connection.
            record = await (accepting if claim is not None else cancel_on_disconnect(submission.request, accepting))
            submission.phases.begin("wait")
        clips = len(record.decoded.clips)
        log.info("job_accepted", job=submission.job_id, model=record.spec.name, clips=clips, caller=caller.owner)
        return Submitted(queued(record), keyed=claim is not None, unended=unended)

    async def _receive(self, submission: Submission, spool: Spool) -> None:
        """Receive the upload into the spool. It counts against the quota of requests once it has its place."""
        await self._auth.admit(submission.caller)
        submission.phases.begin("upload")
        with metrics.stage("upload"):
            await self._uploads.receive(submission.request, spool)
        metrics.UPLOAD_BYTES.inc(spool.received)

    async def _accept(self, submission: Submission, admitted: Admitted, spool: Spool, lookup: CacheLookup) -> JobRecord:
        upload_ms = submission.elapsed_s * 1000
        await self._admission.complete(admitted)
        submission.phases.begin("decode")
        with metrics.stage("decode"), metrics.DECODES_IN_PROGRESS.track_inprogress():
            decoded = await self._decode(submission, spool, admitted)
        metrics.FRAMES_DECODED.inc(decoded.video.frames_decoded)
        submission.phases.begin("enqueue")
        await self._auth.charge(submission.caller, quota_seconds(decoded, submission.options))
        known = decoded.model_dump(mode="json", exclude={"clip_shape"}, exclude_none=True)
        submission.report("decoded", {"id": submission.job_id, **known})
        with metrics.stage("enqueue"):
            now = self._clocks.of(submission.job_id).now()
            record = JobRecord(
                id=submission.job_id,
                request=submission.options,
                spec=admitted.job_model,
                decoded=decoded,
                created_at=now - submission.elapsed_s,
                enqueued_at=now,
                deadline_at=now + submission.left_s,
                upload_ms=upload_ms,
                request_id=submission.request.state.request_id,
                job_class=self._admission.job_class(
                    len(decoded.clips), asynchronous=submission.wait_policy.asynchronous
                ),
                trace=submission.trace,
                owner=submission.caller.tenant,
            )
            with HeldClips(spool.clips, len(decoded.clips) * admitted.spec.clip_bytes) as pixels:
                await self._stores.of(record.id).accept(
                    record,
                    clips=pixels,
                    reservation=admitted.reservation,
                    claim=admitted.claim,
                    fingerprint=lookup.fingerprint,
                    cache_key=lookup.cache_key,
                    reply_to=self._buses.of(record.id).reply_to,
                    more_coming=self._pool.scheduler.waiting > 0,
                )
            self._admission.hand_over(submission.job_id)
        if lookup.cache_key is not None:
            with contextlib.suppress(QueueUnavailable):
                await self._cache.remember(lookup.cache_key, submission.job_id)
        return record

    def _caches(self, options: JobRequest) -> bool:
        return self._cache.on and options.webhook is None

    def _lookup(self, submission: Submission, spec: ModelSpec, spool: Spool) -> CacheLookup:
        if not spool.hashed:
            return CacheLookup()
        digest, caches = fingerprint(spool, submission.options), self._caches(submission.options)
        return CacheLookup(digest, self._cache.key(submission.caller.tenant, spec, digest) if caches else None)

    async def _cached(self, lookup: CacheLookup, claim: Claim | None) -> JobStatus | None:
        """The job that has scored the same upload; from now on the request's Idempotency-Key leads to it."""
        if lookup.cache_key is None:
            return None
        found = await self._cache.find(lookup.cache_key)
        metrics.RESULT_CACHE.labels("miss" if found is None else "hit").inc()
        if found is not None and claim is not None:
            await self._admission.lead(claim, found.id, lookup.fingerprint)
        return found

    async def _repeat(self, submission: Submission, earlier: Earlier) -> Submitted:
        """The job of an earlier request with the same key, once this upload has turned out to be the same."""
        identity = submission.caller.identity
        with self._admission.slot(identity, submission.wait_policy.deadline_s):
            async with self._uploads.spool(identity, hashed=True) as spool:
                await self._receive(submission, spool)
                submission.report("uploaded", {"id": earlier.job_id, "bytes": spool.received})
                submission.phases.begin("wait")
                if fingerprint(spool, submission.options) != earlier.fingerprint:
                    detail = (
                        "This Idempotency-Key belongs to a request with another video or other options. Use a new key."
                    )
                    raise IdempotencyKeyReused(detail)
        return Submitted(await self._stores.of(earlier.job_id).status(earlier.job_id), keyed=True)

    async def _decode(self, submission: Submission, spool: Spool, admitted: Admitted) -> DecodedVideo:
        started: float | None = None
        try:
            async with (
                asyncio.timeout(submission.left_s),
                self._pool.slot(admitted.reservation.job_class, submission.caller.identity) as slot,
            ):
                started = time.monotonic()
                return await slot.decode(
                    spool.upload,
                    spool.clips,
                    admitted.spec.clip,
                    submission.options,
                    most_clips=admitted.reservation.clips,
                    job=submission.job_id,
                )
        except TimeoutError as error:
            deadline_s = submission.wait_policy.deadline_s
            detail = f"The job's deadline of {deadline_s:g} s passed before its video was decoded."
            raise DeadlineExceeded(detail, limit=deadline_s) from error
        except VidtrError as error:
            metrics.DECODE_FAILURES.labels(error.code).inc()
            if isinstance(error, VideoError) and started is not None:
                await self._auth.charge_failed(submission.caller, math.ceil(time.monotonic() - started))
            raise
