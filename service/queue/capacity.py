"""Capacity of the queue: reserved before an upload is read, and passed to its clips when the job is accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any

import structlog
from redis.asyncio import Redis

from service.contracts import JobClass, ModelSpec
from service.errors import RETRY_AFTER_S, QueueFull
from service.queue.clip_routes import entry_bytes, routes
from service.queue.connection import translate_redis_errors
from service.queue.fair_share import FairShare
from service.queue.partitions import share_of
from service.queue.redis_keys import KeyPrefixes, RedisKeys
from service.queue.scripts import Script
from service.queue.turns import Turn

log = structlog.get_logger()

MOST_SPREAD_S = 10.0
# How often one process of the installation counts anew what is reserved: as much work as there are uploads.
AUDIT_S = 60.0
_random = SystemRandom()
# Refusals because of the caller's share end with this.
OWN = " of the caller"


@dataclass(frozen=True)
class CapacityConfig:
    """Field names equal those of `service.settings.Settings`."""

    max_queue_clips: int
    max_queue_bytes: int
    max_wait_share: float
    reservation_ttl_s: float
    worker_interactive_weight: int
    caller_share: float = 1.0

    def share(self, partitions: int) -> CapacityConfig:
        """The limits of one of so many partitions."""
        clips, size = (share_of(total, partitions) for total in (self.max_queue_clips, self.max_queue_bytes))
        return replace(self, max_queue_clips=clips, max_queue_bytes=size)


@dataclass(frozen=True)
class Reservation:
    """Capacity for the clips of one job that is not accepted yet."""

    job_id: str
    job_class: JobClass
    clips: int
    clip_bytes: int
    model: str
    caller: str = ""
    """the caller whose share it counts towards; none where it is empty"""

    @property
    def member(self) -> str:
        """Its member in the sorted set in Redis."""
        # Processes of releases without shares read id and digest as one word.
        holder = f"{self.job_id}x{self.digest}" if self.caller else self.job_id
        return f"{holder}:{self.job_class}:{self.clips}:{self.clip_bytes}:{self.model}"

    @property
    def digest(self) -> str:
        """The name of the caller in Redis."""
        return hashlib.sha256(self.caller.encode()).hexdigest()[:16] if self.caller else ""


@dataclass(frozen=True)
class Found:
    """Why a reservation was refused, if it was, and what was in flight: of the model, of all, ahead, of the caller."""

    refused: str
    clips: int
    size: int
    first: int
    own_clips: int
    own_bytes: int


def retry_after(excess: float, ahead: float, per_s: float | None) -> float:
    """Seconds after which a refused job of `excess` clips too many may be sent again.

    It is the time in which `per_s` clips a second drain the excess, plus a random part of half the time that the clips
    `ahead` take, 10 s at most. Without that spread, all callers that are refused in one second would come back in one
    second too, to capacity for a few of them.
    """
    if per_s is None:
        return RETRY_AFTER_S
    spread = min(ahead / per_s / 2, MOST_SPREAD_S)
    return max(1.0, excess / per_s) + _random.uniform(0.0, spread)


def _counts(members: Iterable[bytes]) -> Counter[str]:
    """What these reservations add up to, as the scripts count it."""
    counts: Counter[str] = Counter()
    for member in members:
        holder, job_class, clips, clip_bytes, model = member.decode().split(":", 4)
        size = int(clips) * int(clip_bytes)
        counts.update({"members": 1, "bytes": size, f"{job_class}:{model}": int(clips)})
        if caller := holder.partition("x")[2]:
            counts.update({f"@{caller}": size, f"@{caller}:{model}": int(clips)})
    return counts


class QueueCapacity:
    """Reservations of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, limits: CapacityConfig) -> None:
        self._redis = redis
        self._keys = keys
        self._prefixes = KeyPrefixes(keys)
        self._limits = limits
        self._reserve = Script(redis, "reserve")
        self._release = Script(redis, "release_capacity")
        self._renew = Script(redis, "renew_capacity")
        self._drop = Script(redis, "drop_reservations")
        self._audit = Script(redis, "audit_reservations")
        self._auditing = Turn(redis, keys, "reservations", AUDIT_S)
        self._reservations = {
            "reserved": keys.reserved,
            "reservations": keys.reservations,
            "counts": keys.reservation_counts,
        }

    async def reserve(
        self,
        wanted: Reservation,
        served: Sequence[ModelSpec],
        rate: float | None,
        deadline_s: float,
        *,
        most_clips: int | None = None,
        instead: Reservation | None = None,
        shared: bool = True,
    ) -> None:
        """Reserve capacity. Raises QueueFull where its clips or bytes do not fit, or the wait would be too long.

        A job may wait `max_wait_share` of its `deadline_s`, estimated by the drain `rate` in clips per second. There
        must be capacity for `most_clips`, though it is not reserved yet. `instead` is released in the same step, unless
        the reservation is refused. A caller that holds capacity gets more only within `caller_share`, if `shared`.
        """
        limits = self._limits
        counted = routes(served)
        share = limits.worker_interactive_weight / (limits.worker_interactive_weight + 1)
        usable = None if rate is None else rate * (1.0 if wanted.job_class is JobClass.BULK else share)
        most_ahead = limits.max_queue_clips if usable is None else usable * deadline_s * limits.max_wait_share
        asked = replace(wanted, clips=most_clips or wanted.clips)
        with translate_redis_errors():
            reply: Any = await self._reserve(
                keys={
                    **self._reservations,
                    "deadlines": self._keys.deadlines,
                    "held": self._keys.held(wanted.digest),
                    "held_sums": self._keys.held_sums(wanted.digest),
                    "streams": [self._keys.clips(route, job_class) for route in counted for job_class in JobClass],
                },
                args={
                    "life": limits.reservation_ttl_s,
                    "member": wanted.member,
                    "model": wanted.model,
                    "class": wanted.job_class,
                    "size": wanted.clip_bytes,
                    "max_clips": limits.max_queue_clips,
                    "max_bytes": limits.max_queue_bytes,
                    "max_ahead": most_ahead,
                    "wanted": asked.clips,
                    "instead": instead.member if instead else "",
                    "digest": wanted.digest,
                    "loose": FairShare(limits.caller_share).per_free if shared and wanted.caller else -1,
                    "scores_prefix": self._prefixes.scores,
                    "models_and_sizes": [
                        part for route, spec in counted.items() for part in (spec.name, entry_bytes(route, spec))
                    ],
                },
            )
        found = Found(reply[0].decode(), *map(int, reply[1:]))
        if found.refused:
            raise self._full(asked, found, usable, most_ahead)

    def _full(self, wanted: Reservation, found: Found, usable: float | None, most_ahead: float) -> QueueFull:
        limits, asked_bytes = self._limits, wanted.clips * wanted.clip_bytes
        clips, size, first = found.clips, found.size, found.first
        limit: float
        actual: float
        if found.refused == "clips":
            excess = float(clips + wanted.clips - limits.max_queue_clips)
            detail = (
                f"{clips} clips are in flight for model {wanted.model} and this video may have {wanted.clips}; the"
                f" limit is {limits.max_queue_clips}. Try again later."
            )
            limit, actual = float(limits.max_queue_clips), float(clips + wanted.clips)
        elif found.refused == "bytes":
            excess = (size + asked_bytes - limits.max_queue_bytes) / wanted.clip_bytes
            detail = (
                f"{size} bytes of clips are in flight and this video may have {asked_bytes}; the limit is"
                f" {limits.max_queue_bytes}. Try again later."
            )
            limit, actual = float(limits.max_queue_bytes), float(size + asked_bytes)
        elif found.refused == "clips of the caller":
            limit = FairShare(limits.caller_share).most(found.own_clips, limits.max_queue_clips - clips)
            actual = float(found.own_clips + wanted.clips)
            excess = actual - limit
            detail = (
                f"{found.own_clips} clips of this caller are in flight for model {wanted.model} and this video may have"
                f" {wanted.clips}; the rest is kept for others. Try again later."
            )
        elif found.refused == "bytes of the caller":
            limit = FairShare(limits.caller_share).most(found.own_bytes, limits.max_queue_bytes - size)
            actual = float(found.own_bytes + asked_bytes)
            excess = (actual - limit) / wanted.clip_bytes
            detail = (
                f"{found.own_bytes} bytes of clips of this caller are in flight and this video may have {asked_bytes};"
                " the rest is kept for others. Try again later."
            )
        else:
            excess = first + wanted.clips - most_ahead
            per_s = usable or 1.0
            detail = f"{first} clips are ahead of this video: it would miss its deadline. Try again later."
            limit, actual = round(most_ahead / per_s, 1), round((first + wanted.clips) / per_s, 1)
        ahead = first if found.refused == "wait" else clips
        full = QueueFull(detail, limit=limit, actual=actual, retry_after_s=retry_after(excess, ahead, usable))
        full.share_of = found.refused.removesuffix(OWN) if found.refused.endswith(OWN) else ""
        return full

    async def release(self, reservation: Reservation) -> None:
        """Release the capacity, and delete the clips of a job that was not accepted; may be repeated."""
        with translate_redis_errors():
            await self._release(
                keys={**self._reservations, "job": self._keys.job(reservation.job_id)},
                args={
                    "member": reservation.member,
                    "clips": reservation.clips,
                    "payload_prefix": self._keys.payload(reservation.job_id, ""),
                },
            )

    async def drop(self, reservations: Iterable[Reservation]) -> None:
        """Delete reservations, but none of the clips: they belong to jobs by now."""
        members = [one.member for one in reservations]
        if members:
            with translate_redis_errors():
                await self._drop(keys=self._reservations, args={"members": members})

    async def audit_in_turn(self) -> None:
        """`audit` where it is due and this process' turn."""
        if await self._auditing.due() and (wrong := await self.audit()):
            log.error("reservations_miscounted", counts=wrong)

    async def audit(self) -> int:
        """Count anew what is reserved; returns how many counts were wrong, which none should be."""
        keys = {"reservations": self._keys.reservations, "counts": self._keys.reservation_counts}
        with translate_redis_errors():
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrange(keys["reservations"], 0, -1)
            pipe.hgetall(keys["counts"])
            members, counts = await pipe.execute()
            # Counted here, because Redis would serve nobody else meanwhile.
            if _counts(members) == Counter({name.decode(): int(value) for name, value in counts.items()}):
                return 0
            return int(await self._audit(keys=keys, args={}))

    async def renew(self, reservations: Iterable[Reservation]) -> None:
        """Prolong reservations whose uploads continue, and the lives of the clips that were stored under them."""
        kept = list(reservations)
        if not kept:
            return
        with translate_redis_errors():
            await self._renew(
                keys={**self._reservations, "jobs": [self._keys.job(one.job_id) for one in kept]},
                args={
                    "life": self._limits.reservation_ttl_s,
                    "reservations": [
                        part for one in kept for part in (one.member, one.clips, self._keys.payload(one.job_id, ""))
                    ],
                },
            )
