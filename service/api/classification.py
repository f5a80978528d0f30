"""From an upload to a job: admit, spool, decode, enqueue."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import structlog

from service.api.admission import Admission, Admitted
from service.api.auth import Authenticator
from service.api.disconnect import cancel_on_disconnect
from service.api.spool import Spool
from service.api.staging import JobEnded, Staging
from service.api.submission import (
    CacheLookup,
    Follow,
    Submission,
    Submitted,
    evidence_seconds,
    fingerprint,
    queued,
    quota_seconds,
)
from service.api.upload import UploadReceiver
from service.api.upload_decoder import UploadDecoder
from service.causal_evidence import check_evidence_window, evidence_clips, evidence_plan
from service.contracts import DecodedVideo, JobRecord, JobRequest, JobStatus, ModelSpec
from service.errors import (
    RETRY_AFTER_S,
    Draining,
    IdempotencyKeyReused,
    QueueUnavailable,
)
from service.queue.capacity import Reservation
from service.queue.clock import Clock
from service.queue.idempotency import Claim, Earlier
from service.queue.job_intake import Clips, Stage
from service.queue.job_store import JobStore
from service.queue.partitions import PerPartition
from service.queue.result_bus import ResultBus
from service.queue.result_cache import ResultCache
from service.telemetry import metrics, traces
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool

log = structlog.get_logger()

Commit: TypeAlias = "Callable[..., Awaitable[JobRecord]]"


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
        self._decoder = UploadDecoder(pool, auth)
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
            if submission.compared:
                await self._compare(submission, claim)
            return Submitted(await self._stores.of(claim.job_id).status(claim.job_id), keyed=True)
        async with (
            self._admission.admit(
                options,
                claim,
                submission.wait_policy.deadline_s,
                asynchronous=submission.wait_policy.asynchronous,
                caller=caller.identity,
            ) as admitted,
            self._uploads.spool(
                caller.identity, hashed=claim is not None or self._caches(options) or self._uploads.config.hash_uploads
            ) as spool,
        ):
            submission = replace(submission, job_id=admitted.job_id)
            traces.annotate(job=submission.job_id)
            await self._receive(submission, spool)
            spool.expect_clips(admitted.most_views * admitted.spec.clip_bytes)
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
            if lookup.cache_key is not None:
                with contextlib.suppress(QueueUnavailable):
                    await self._cache.remember(lookup.cache_key, submission.job_id)
            submission.phases.begin("wait")
        clips = record.units
        log.info("job_accepted", job=submission.job_id, model=record.spec.name, clips=clips, caller=caller.owner)
        return Submitted(queued(record), keyed=claim is not None, unended=unended)

    async def _receive(self, submission: Submission, spool: Spool) -> None:
        """Receive the upload into the spool. It counts against the quota of requests once it has its place."""
        await self._auth.admit(submission.caller)
        submission.phases.begin("upload")
        with metrics.stage("upload"):
            arrived = await self._uploads.receive(submission.request, spool, submission.caller)
        metrics.UPLOAD_BYTES.inc(arrived)

    async def _accept(self, submission: Submission, admitted: Admitted, spool: Spool, lookup: CacheLookup) -> JobRecord:
        commit = partial(self._commit, submission, admitted, lookup, submission.elapsed_s * 1000)
        await self._admission.complete(admitted)
        if submission.follow is not None and submission.options.evidence == "none":
            return await self._accept_in_stages(submission, admitted, spool, commit, submission.follow)
        decoded = await self._decoder.decoded(submission, admitted, spool)
        return await self._accept_at_once(submission, admitted, spool, commit, decoded)

    async def _accept_at_once(
        self, submission: Submission, admitted: Admitted, spool: Spool, commit: Commit, decoded: DecodedVideo
    ) -> JobRecord:
        self._admission.check_cells(admitted.spec, submission.options, len(decoded.clips))
        planned = evidence_plan(submission.options, admitted.spec.frames)
        if planned is not None:
            check_evidence_window(planned, len(decoded.windows))
            self._admission.check_forwards(evidence_clips(planned, decoded.clip_count, decoded.crops))
        seconds = quota_seconds(decoded, submission.options) + evidence_seconds(decoded, admitted.spec, planned)
        await self._auth.charge(submission.caller, seconds)
        submission.report("decoded", {"id": submission.job_id, **_known(decoded)})
        with (
            metrics.stage("enqueue"),
            HeldClips(spool.clips, decoded.clip_count * admitted.spec.clip_bytes) as pixels,
        ):
            record = await commit(decoded, pixels, admitted.reservation)
            self._admission.hand_over(submission.job_id)
        return record

    async def _accept_in_stages(
        self, submission: Submission, admitted: Admitted, spool: Spool, commit: Commit, follow: Follow
    ) -> JobRecord:
        async def begin(known: DecodedVideo, clips: Clips, reservation: Reservation, stage: Stage) -> JobRecord:
            self._admission.check_cells(admitted.spec, submission.options, len(known.clips))
            await self._auth.charge(submission.caller, quota_seconds(known, submission.options))
            record = await commit(known, clips, reservation, stage)
            submission.report("planned", {"id": submission.job_id, **_known(known)})
            follow(queued(record), lambda: staging.record)
            return record

        job_id = submission.job_id
        staging = Staging(
            spool.clips, self._stores.of(job_id), self._admission, admitted, self._clocks.of(job_id), begin
        )
        try:
            decoded = await self._decoder.decoded(submission, admitted, spool, staging)
            if not staging.begun:
                return await self._accept_at_once(submission, admitted, spool, commit, decoded)
            submission.report("decoded", {"id": job_id, **_known(decoded)})
            with metrics.stage("enqueue"):
                record = await staging.end(decoded)
                self._admission.hand_over(job_id)
        except JobEnded:
            # How it ended is told as of any job.
            return staging.job
        except BaseException as error:
            await staging.give_up(error)
            raise
        else:
            return record
        finally:
            staging.close()

    async def _commit(
        self,
        submission: Submission,
        admitted: Admitted,
        lookup: CacheLookup,
        upload_ms: float,
        decoded: DecodedVideo,
        clips: Clips,
        reservation: Reservation,
        stage: Stage | None = None,
    ) -> JobRecord:
        now = await self._clocks.of(submission.job_id).time()
        planned = evidence_plan(submission.options, admitted.spec.frames)
        views = decoded.clip_count
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
                views, asynchronous=submission.wait_policy.asynchronous or planned is not None
            ),
            trace=submission.trace,
            video_sha256=lookup.video_sha256,
            owner=submission.caller.tenant,
            evidence=planned,
        )
        await self._stores.of(record.id).accept(
            record,
            clips=clips,
            reservation=reservation,
            claim=admitted.claim,
            fingerprint=lookup.fingerprint,
            cache_key=lookup.cache_key,
            reply_to=self._buses.of(record.id).reply_to,
            more_coming=self._pool.scheduler.waiting > 0,
            stage=stage,
        )
        return record

    def _caches(self, options: JobRequest) -> bool:
        return self._cache.on and options.webhook is None

    def _lookup(self, submission: Submission, spec: ModelSpec, spool: Spool) -> CacheLookup:
        if not spool.hashed:
            return CacheLookup()
        upload = "" if spool.source is not None else spool.sha256
        caches = self._caches(submission.options)
        if submission.idempotency_key is None and not caches:
            return CacheLookup(video_sha256=upload)
        digest = fingerprint(spool, submission.options)
        cache_key = self._cache.key(submission.caller.tenant, spec, digest) if caches and spool.certain else None
        return CacheLookup(digest, cache_key, upload)

    async def _cached(self, lookup: CacheLookup, claim: Claim | None) -> JobStatus | None:
        """The job that has scored the same upload; from now on the request's Idempotency-Key leads to it."""
        if lookup.cache_key is None:
            return None
        found = await self._cache.find(lookup.cache_key)
        metrics.RESULT_CACHE.labels("miss" if found is None else "hit").inc()
        if found is not None and claim is not None:
            await self._admission.lead(claim, found.id, lookup.fingerprint)
        return found

    async def _compare(self, submission: Submission, earlier: Earlier) -> None:
        """Receive an upload whose key an earlier one has. Raises IdempotencyKeyReused unless both are the same."""
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


def _known(decoded: DecodedVideo) -> dict[str, Any]:
    return decoded.model_dump(mode="json", exclude={"clip_shape"}, exclude_none=True)
