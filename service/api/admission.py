"""Admission of uploads: decided before the body is read, and once more before a long video is decoded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import structlog

from service.api.job_size import JobSizeConfig, check_cells, check_forwards, job_size
from service.api.model_choice import ModelChoice
from service.api.shares import Shares
from service.contracts import JobClass, JobModel, JobRequest, ModelSpec
from service.errors import RETRY_AFTER_S, QueueFull, QueueUnavailable, VidtrError
from service.periodic import Periodic
from service.queue.capacity import QueueCapacity, Reservation, retry_after
from service.queue.claims import Claims
from service.queue.clip_routes import entry_bytes, masked_route_of
from service.queue.idempotency import Claim, Earlier
from service.queue.live_models import LiveModels
from service.queue.partitions import Independently, PerPartition, Rotation, job_id_in, number_of
from service.telemetry import metrics
from service.video.decode_scheduler import DecodeScheduler

log = structlog.get_logger()

RENEWALS_PER_TTL = 3


@dataclass(frozen=True)
class AdmissionConfig(JobSizeConfig):
    """Field names equal those of `service.settings.Settings`."""

    default_model: str
    max_concurrent_uploads: int
    max_wait_share: float
    bulk_clips: int
    reservation_ttl_s: float
    reservation_start_clips: int


@dataclass
class Admitted:
    """Resources that an upload holds until its job is accepted."""

    spec: ModelSpec
    job_model: JobModel
    """what the job's record is to say of the model"""
    reservation: Reservation
    most_clips: int
    """what its options allow, of which the reservation may be a part"""
    deadline_s: float
    claim: Claim | None
    most_views: int
    """whole clips among `most_clips`: those that are decoded"""

    @property
    def job_id(self) -> str:
        """The id of its job, which says in which partition the job is."""
        return self.reservation.job_id


class Admission:
    """Reserves queue capacity and Idempotency-Keys, and renews both while their uploads continue."""

    def __init__(
        self,
        config: AdmissionConfig,
        models: LiveModels,
        capacity: PerPartition[QueueCapacity],
        claims: Claims,
        scheduler: DecodeScheduler,
        shares: Shares | None = None,
    ) -> None:
        """Without `shares` every caller may use all slots."""
        self._config = config
        self._scheduler = scheduler
        self._choice = ModelChoice(models, config.default_model)
        self._capacity = capacity
        self._claiming = claims
        self._rotation = Rotation(len(capacity))
        self._shares = shares or Shares(1.0)
        self._uploads = self._shares.of("uploads", config.max_concurrent_uploads)
        self._held: dict[str, Admitted] = {}
        self._claims: dict[str, Claim] = {}
        renewed_s = config.reservation_ttl_s / RENEWALS_PER_TTL
        self._renewing = Independently(renewed_s)
        self._renewal = Periodic("admission", renewed_s, self._renew)

    def start(self) -> None:
        """Begin to renew what uploads hold; call once, in the event loop."""
        self._renewal.start()

    async def close(self) -> None:
        """Stop renewing."""
        await self._renewal.close()

    def job_class(self, clips: int, *, asynchronous: bool) -> JobClass:
        """Bulk for asynchronous jobs and for jobs of more than `bulk_clips` clips, else interactive."""
        return JobClass.BULK if asynchronous or clips > self._config.bulk_clips else JobClass.INTERACTIVE

    async def earlier(self, key: str, owner: str) -> Claim | Earlier:
        """Claim an Idempotency-Key, or find the job that owns it. Raises IdempotencyInProgress."""
        return await self._claiming.claim(key, owner)

    @contextlib.contextmanager
    def slot(self, caller: str, deadline_s: float) -> Iterator[None]:
        """One of the uploads that this process may receive at a time. Raises QueueFull."""
        with _counted():
            self._check_decode_wait(caller, deadline_s)
        with self.receiving(caller):
            yield

    @contextlib.contextmanager
    def receiving(self, caller: str) -> Iterator[None]:
        """The same for an upload that is not decoded now. Raises QueueFull."""
        with _counted():
            refused = self._uploads.take(caller)
            if refused is not None:
                whose = " of this caller" if refused.own else ""
                raise QueueFull(
                    f"This process already receives and decodes {refused.actual} uploads{whose}; its limit is"
                    f" {refused.limit}. Try again later.",
                    limit=refused.limit,
                    actual=refused.actual,
                    retry_after_s=RETRY_AFTER_S,
                )
        with self._uploads.held_by(caller):
            yield

    @contextlib.asynccontextmanager
    async def admit(
        self,
        options: JobRequest,
        claim: Claim | None,
        deadline_s: float,
        *,
        asynchronous: bool,
        caller: str = "",
    ) -> AsyncIterator[Admitted]:
        """A slot and queue capacity while the upload is received and decoded, released unless `hand_over` is called.

        Raises QueueFull, BackendUnavailable, UnknownModel or InvalidOption.
        """
        if claim is not None:
            self._claims[claim.job_id] = claim
        try:
            with self.slot(caller, deadline_s):
                async with self._reserved(options, claim, deadline_s, asynchronous, caller) as admitted:
                    yield admitted
        finally:
            if claim is not None and self._claims.pop(claim.job_id, None) is not None:
                with contextlib.suppress(QueueUnavailable):
                    await self._claiming.release(claim)

    @contextlib.asynccontextmanager
    async def admit_decoded(self, options: JobRequest, deadline_s: float, caller: str) -> AsyncIterator[Admitted]:
        """`admit` for clips that are there, and so need no slot of an upload."""
        async with self._reserved(options, None, deadline_s, False, caller) as admitted:
            yield admitted

    @contextlib.asynccontextmanager
    async def _reserved(
        self, options: JobRequest, claim: Claim | None, deadline_s: float, asynchronous: bool, caller: str
    ) -> AsyncIterator[Admitted]:
        with metrics.stage("admission"), _counted():
            admitted = await self._admit(options, claim, deadline_s, asynchronous, caller)
        self._held[admitted.job_id] = admitted
        try:
            yield admitted
        finally:
            if self._held.pop(admitted.job_id, None) is not None:
                with contextlib.suppress(QueueUnavailable):
                    await self._capacity.of(admitted.job_id).release(admitted.reservation)

    async def served(self, options: JobRequest) -> ModelSpec:
        """The model that is asked for. Raises UnknownModel, BackendUnavailable, QueueUnavailable."""
        with _counted():
            return (await self._choice.pick(options))[0]

    def hand_over(self, job_id: str) -> None:
        """The accepted job owns its reservation and its Idempotency-Key: `admit` releases neither any more."""
        del self._held[job_id]
        self._claims.pop(job_id, None)

    @contextlib.contextmanager
    def passing_on(self, admitted: Admitted, left: Reservation) -> Iterator[None]:
        """Clips of a job in stages, and the Idempotency-Key, pass to the job inside; `left` stays for the others."""
        before, admitted.reservation = admitted.reservation, left
        try:
            yield
        except BaseException:
            admitted.reservation = before
            raise
        self._claims.pop(admitted.job_id, None)

    async def complete(self, admitted: Admitted) -> None:
        """Reserve the capacity that is still missing, now that the upload is there.

        Raises QueueFull, and keeps the capacity that was reserved before.
        """
        begun = admitted.reservation
        if admitted.most_clips <= begun.clips:
            return
        with _counted():
            served, fleet = await self._choice.live()
            wanted = replace(begun, clips=admitted.most_clips)
            rate = fleet.drain_rate(begun.model)
            await self._reserve(wanted, served, rate, admitted.deadline_s, wanted.clips, begun)
            admitted.reservation = wanted

    async def lead(self, claim: Claim, job_id: str, fingerprint: str) -> None:
        """Let the Idempotency-Key of an upload lead to an earlier job with the same result."""
        await self._claiming.lead(claim, job_id, fingerprint)

    async def _admit(
        self,
        options: JobRequest,
        claim: Claim | None,
        deadline_s: float,
        asynchronous: bool,
        caller: str,
    ) -> Admitted:
        spec, served, fleet = await self._choice.pick(options)
        most = job_size(self._config, spec, options)
        job_model, size = fleet.job_model(spec), spec.clip_bytes
        if options.evidence != "none":
            route = masked_route_of(spec)
            job_model, size = job_model.model_copy(update={"route": route}), entry_bytes(route, spec)
        job_class = self.job_class(most.clips, asynchronous=asynchronous or options.evidence != "none")
        start = min(most.clips, self._config.reservation_start_clips)
        wanted = Reservation("", job_class, start, size, spec.name, caller)
        rate = fleet.drain_rate(spec.name)
        if claim is not None:
            wanted = replace(wanted, job_id=claim.job_id)
            await self._reserve(wanted, served, rate, deadline_s, most.clips)
        else:
            wanted = await self._reserve_anywhere(wanted, served, rate, deadline_s, most.clips)
        return Admitted(spec, job_model, wanted, most.clips, deadline_s, claim, most.views)

    async def _reserve_anywhere(
        self, wanted: Reservation, served: list[ModelSpec], rate: float | None, deadline_s: float, most_clips: int
    ) -> Reservation:
        """Reserve in the next partition that has room. Raises what says of all refusals when to try again."""
        full: QueueFull | None = None
        away: QueueUnavailable | None = None
        for number in self._rotation.order():
            here = replace(wanted, job_id=job_id_in(number, len(self._capacity)))
            try:
                await self._reserve(here, served, rate, deadline_s, most_clips)
            except QueueFull as error:
                if full is None or (error.retry_after_s or 0.0) < (full.retry_after_s or 0.0):
                    full = error
            except QueueUnavailable as error:
                self._rotation.away(number)
                away = error
            else:
                return here
        raise full or away or AssertionError

    async def _reserve(
        self,
        wanted: Reservation,
        served: list[ModelSpec],
        rate: float | None,
        deadline_s: float,
        most_clips: int,
        instead: Reservation | None = None,
    ) -> None:
        shared = self._shares.rule().share < 1
        # Workers serve the partitions in turn.
        here = None if rate is None else rate / len(self._capacity)
        await self._capacity.of(wanted.job_id).reserve(
            wanted, served, here, deadline_s, most_clips=most_clips, instead=instead, shared=shared
        )

    def _check_decode_wait(self, caller: str, deadline_s: float) -> None:
        ahead = self._uploads.ahead(caller)
        most_s, ready_s = deadline_s * self._config.max_wait_share, self._scheduler.estimated_wait_s(ahead)
        # An idle process takes everything: the next video may be a short one.
        if ahead and ready_s > most_s:
            detail = (
                f"{ahead} uploads are ahead of this one: it would be decoded in {ready_s:.1f} s, and its deadline"
                f" allows {most_s:.1f} s. Try again later or allow a later deadline."
            )
            raise QueueFull(
                detail,
                limit=round(most_s, 1),
                actual=round(ready_s, 1),
                retry_after_s=retry_after(ready_s - most_s, ready_s, 1.0),
            )

    def check_forwards(self, forwards: int) -> None:
        """Raise EvidenceTooLarge where evidence takes more clips than one job may have."""
        check_forwards(self._config.max_evidence_forwards, forwards)

    def check_cells(self, spec: ModelSpec, options: JobRequest, clips: int) -> None:
        """Raise SpatialAttentionTooLarge where an answer would have more numbers of it than it may."""
        check_cells(self._config.max_spatial_cells, spec, options, clips)

    async def _renew(self) -> None:
        await self._renewing.run(range(len(self._capacity)), self._renew_in)

    async def _renew_in(self, partition: int) -> None:
        capacity, count = self._capacity[partition], len(self._capacity)
        kept = [one.reservation for one in self._held.values() if number_of(one.job_id, count) == partition]
        claims = [claim for claim in self._claims.values() if number_of(claim.job_id, count) == partition]
        try:
            await capacity.renew(kept)
            # What ended, or grew, while its renewal was on its way may have come back by it.
            now = {admitted.reservation for admitted in self._held.values()}
            await capacity.drop(reservation for reservation in kept if reservation not in now)
            await self._claiming.renew(partition, claims)
            for claim in claims:
                if self._claims.get(claim.job_id) is not claim:
                    await self._claiming.release(claim)
            await capacity.audit_in_turn()
        except QueueUnavailable as error:
            log.warning("queue_unavailable", detail=error.detail)


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except VidtrError as error:
        metrics.ADMISSION_REJECTS.labels(error.code).inc()
        if isinstance(error, QueueFull) and error.share_of:
            metrics.SHARE_REFUSALS.labels(error.share_of).inc()
        raise
