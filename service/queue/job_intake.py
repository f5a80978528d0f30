"""Accepts jobs into Redis: the clips, then record and stream entries in one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis

from service.contracts import EvidencePlan, JobRecord
from service.errors import RETRY_AFTER_S, IdempotencyInProgress, QueueUnavailable
from service.evidence import plan
from service.queue.capacity import Reservation
from service.queue.connection import finish_before_cancel, translate_redis_errors
from service.queue.idempotency import Claim
from service.queue.job_list import listed_as
from service.queue.job_reader import JobReader
from service.queue.redis_keys import (
    CACHE_KEY_ELSEWHERE_FIELD,
    CACHE_KEY_FIELD,
    MASKED_FIELD,
    MASKED_FIRST_FIELD,
    MORE_COMING_FIELD,
    QUEUED_FIELD,
    REPLY_TO_FIELD,
    VIEWS_FIELD,
    KeyPrefixes,
    RedisKeys,
)
from service.queue.scripts import Script

# Payloads are sent in pieces of about this size: otherwise a 200-clip job would be in memory twice.
PIPELINE_BYTES = 8 << 20
# Clips of a job up to this size are sent with it, in one step: a round trip less, but the script copies them once more,
# which from about this size on costs Redis more than the round trip.
TOGETHER_BYTES = 576 << 10
# Share of its reservation's life that a clip lives before its job is accepted. Reservations are renewed when a third of
# their life is over: nothing is ever in Redis that no reservation counts.
UNACCEPTED_SHARE = 2 / 3


@dataclass(frozen=True)
class JobTtlConfig:
    """How long the parts of a job are kept, in seconds."""

    payload_ttl_s: int
    result_ttl_s: int
    tombstone_ttl_s: int
    idempotency_ttl_s: int
    reservation_ttl_s: float = 30.0


class Clips(Protocol):
    """The raw bytes of a job's clips, one after the other: in memory, or read where they are sliced."""

    def __len__(self) -> int:
        """Bytes in all."""

    def __getitem__(self, piece: slice, /) -> bytes | memoryview:
        """The bytes of a slice without a step."""


def entry_fields(record: JobRecord, clip: int, *, more_coming: bool = False) -> dict[Any, Any]:
    """The stream entry of one clip of a job; `more_coming` says that clips of other jobs come soon."""
    fields: dict[Any, Any] = {
        "v": record.schema_version,
        "job": record.id,
        "version": record.spec.version,
        "weights": record.spec.weights_sha256,
        "shape": ",".join(map(str, record.decoded.clip_shape)),
        "enqueued_at": record.enqueued_at,
        "trace": record.trace,
        "deadline_at": record.deadline_at,
        "clip": clip,
        MORE_COMING_FIELD: int(more_coming),
    }
    if record.request.attention == "spatial":
        fields["spatial"] = 1
    return fields if record.evidence is None else fields | _made_of(record, record.evidence, clip)


def _made_of(record: JobRecord, evidence: EvidencePlan, clip: int) -> dict[str, Any]:
    """Which view a clip of a job with evidence shows, and which frames of it."""
    view, number = record.view_of(clip)
    return {"view": view, "kept": _digits(record.decoded.clip_shape[0], evidence.orders)[number - 1] if number else ""}


@lru_cache(maxsize=32)
def _digits(frames: int, orders: int) -> tuple[str, ...]:
    return tuple("".join("01"[kept] for kept in mask) for mask in plan(frames, orders).masks.tolist())


def in_queue_order(record: JobRecord) -> Iterable[int]:
    """The numbers of a job's clips as they are queued: all that show one view together, so that it is fetched once."""
    return sorted(range(record.units), key=record.view_of)


@dataclass(frozen=True)
class Stage:
    """How far the clips of a job in stages are queued."""

    queued: int
    """how many of them, from the first on"""
    left: Reservation
    """what stays reserved for the others"""


def clips_gone(times: JobTtlConfig) -> QueueUnavailable:
    """The error where clips expired before they were queued."""
    detail = (
        f"The upload was delayed for longer than its clips are kept before acceptance,"
        f" {times.reservation_ttl_s:g} s. Try again later."
    )
    return QueueUnavailable(detail, limit=times.reservation_ttl_s, retry_after_s=RETRY_AFTER_S)


class JobIntake(JobReader):
    """Accepts jobs. Every method raises QueueUnavailable when Redis cannot be reached or is out of memory."""

    def __init__(self, redis: Redis, keys: RedisKeys, times: JobTtlConfig) -> None:
        super().__init__(redis, keys, times.result_ttl_s)
        self._times = times
        self._prefixes = KeyPrefixes(keys)
        self._accept = Script(redis, "accept")

    async def put_payloads(
        self, job_id: str, clips: Clips, clip_bytes: int, life_s: float | None = None, first: int = 0
    ) -> None:
        """Store the raw bytes of a job's clips, `clip_bytes` each, from number `first` on, before they are queued.

        They live `life_s`, or as long as those of an accepted job. A cancellation takes effect after the present write.
        """
        life_ms = int(1000 * (self._times.payload_ttl_s if life_s is None else life_s))
        step = max(1, PIPELINE_BYTES // clip_bytes)
        numbered = enumerate(_pieces(clips, clip_bytes), start=first)
        with translate_redis_errors():
            while some := list(islice(numbered, step)):
                pipe = self._redis.pipeline(transaction=False)
                for i, piece in some:
                    pipe.set(self._keys.payload(job_id, i), piece, px=life_ms)
                await finish_before_cancel(pipe.execute())

    async def accept(
        self,
        record: JobRecord,
        *,
        clips: Clips | None = None,
        reservation: Reservation | None = None,
        claim: Claim | None = None,
        fingerprint: str = "",
        cache_key: str | None = None,
        reply_to: str = "",
        more_coming: bool = False,
        stage: Stage | None = None,
    ) -> None:
        """Commit the job's record and all its stream entries in one step: from here on the job is not lost.

        `clips` are the raw bytes of all its clips; without them `put_payloads` has stored them before. The reserved
        capacity passes to the entries, and the claimed Idempotency-Key leads to the job from now on. `cache_key` is
        the entry of the result cache that is deleted when the job is erased. `reply_to` names the `ResultBus` whose
        channel gets the outcome itself. `more_coming` says that clips of other jobs come soon. With a `stage`, `clips`
        are only the first ones, and `add_clips` has to bring the others.

        Raises IdempotencyInProgress when the claim has meanwhile gone to another request, and QueueUnavailable when
        the reservation lapsed and took clips with it; then no job was made.
        """
        keys, spec = self._keys, record.spec
        total, route = record.units, spec.route or spec.name
        clip_bytes = math.prod(record.decoded.clip_shape)
        job: dict[str, Any] = {
            "v": record.schema_version,
            "record": record.model_dump_json(),
            "model": spec.name,
            "version": spec.version,
            "total": total,
            "created_at": record.created_at,
            "deadline_at": record.deadline_at,
            "owner": record.owner,
        }
        if record.request.webhook is not None:
            job["webhook"] = record.request.webhook
        if claim is not None:
            job["idempotency"] = claim.key
        if cache_key is not None:
            here = cache_key.startswith(f"{keys.prefix}:")
            job[CACHE_KEY_FIELD if here else CACHE_KEY_ELSEWHERE_FIELD] = cache_key
        if reply_to:
            job[REPLY_TO_FIELD] = reply_to
        if stage is not None:
            job[QUEUED_FIELD] = stage.queued
        if record.evidence is not None:
            masked = record.masked_views
            job |= {VIEWS_FIELD: record.decoded.clip_count, MASKED_FIRST_FIELD: masked.start, MASKED_FIELD: len(masked)}
        whole = record.decoded.clip_count if stage is None else stage.queued
        queued = in_queue_order(record) if stage is None else range(stage.queued)
        entries = [entry_fields(record, clip, more_coming=more_coming) for clip in queued]
        payloads: dict[str, bytes | memoryview] = {}
        if clips is not None and len(clips) > TOGETHER_BYTES:
            await self.put_payloads(record.id, clips, clip_bytes, UNACCEPTED_SHARE * self._times.reservation_ttl_s)
            payloads = {keys.payload(record.id, i): memoryview(b"") for i in range(whole)}
        elif clips is not None:
            payloads = {keys.payload(record.id, i): piece for i, piece in enumerate(_pieces(clips, clip_bytes))}
        caller = reservation.digest if reservation else ""
        with translate_redis_errors():
            committed = await self._accept(
                keys={
                    "job": keys.job(record.id),
                    "stream": keys.clips(route, record.job_class),
                    "deadlines": keys.deadlines,
                    "reserved": keys.reserved,
                    "reservations": keys.reservations,
                    "counts": keys.reservation_counts,
                    "held": keys.held(caller),
                    "held_sums": keys.held_sums(caller),
                    "events": keys.events(record.id),
                    "jobs": keys.jobs(record.owner),
                    "routes": keys.routes,
                    "payload_keys": payloads.keys(),
                    "claim": [claim.key] if claim else [],
                },
                args={
                    "token": claim.token if claim else "",
                    "claimed": claim.accepted(record.id, fingerprint) if claim else "",
                    "claim_life": self._times.idempotency_ttl_s,
                    "job_life": self._times.tombstone_ttl_s,
                    "id": record.id,
                    "deadline": record.deadline_at,
                    "reservation": reservation.member if reservation else "",
                    "left": stage.left.member if stage else "",
                    "job_fields": 2 * len(job),
                    "entry_fields": 2 * len(entries[0]),
                    "payload_life": self._times.payload_ttl_s,
                    "place": listed_as(record.created_at, record.id),
                    "oldest_place": listed_as(record.created_at - self._times.tombstone_ttl_s, ""),
                    "route": route,
                    "payload_count": len(payloads),
                    "payloads": payloads.values(),
                    "fields": [part for fields in (job, *entries) for pair in fields.items() for part in pair],
                },
            )
        if committed < 0:
            raise clips_gone(self._times)
        if not committed:
            detail = "Another request with this Idempotency-Key took over while this one was delayed. Try again later."
            raise IdempotencyInProgress(detail, retry_after_s=2.0)


def _pieces(clips: Clips, clip_bytes: int) -> Iterator[bytes | memoryview]:
    return (clips[start : start + clip_bytes] for start in range(0, len(clips) - clip_bytes + 1, clip_bytes))
