"""Room in the queue: reserved before an upload is read, handed over to its clips when the job is accepted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobClass, ModelSpec, WorkerStatus
from service.errors import RETRY_AFTER_S, QueueFull
from service.queue.capacity_scripts import RELEASE, RENEW, RESERVE
from service.queue.clip_routes import routes
from service.queue.connection import translate_redis_errors
from service.queue.fair_share import FairShare
from service.queue.redis_keys import RedisKeys

# Used while no worker has measured anything.
MOST_SPREAD_S = 10.0
_random = SystemRandom()
# How the refusals of the script end that are about the caller's share.
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


@dataclass(frozen=True)
class Reservation:
    """Room for the clips of one job that is not accepted yet."""

    job_id: str
    job_class: JobClass
    clips: int
    clip_bytes: int
    model: str
    caller: str = ""
    """whose share it counts against; nobody's where it is empty"""

    @property
    def member(self) -> str:
        """How it stands in Redis."""
        # Processes of releases without shares read id and digest as one word.
        holder = f"{self.job_id}x{self.digest}" if self.caller else self.job_id
        return f"{holder}:{self.job_class}:{self.clips}:{self.clip_bytes}:{self.model}"

    @property
    def digest(self) -> str:
        """What Redis knows the caller by."""
        return hashlib.sha256(self.caller.encode()).hexdigest()[:16] if self.caller else ""


@dataclass(frozen=True)
class Found:
    """What stood in the way of a reservation, and what was in flight: of the model, of all, ahead, of the caller."""

    refused: str
    clips: int
    size: int
    first: int
    own_clips: int
    own_bytes: int


def drain_rate(workers: Iterable[WorkerStatus], model: str) -> float | None:
    """Clips per second that the live workers of `model` score together; None where nobody has measured it."""
    rates = [w.clips_per_s[model] for w in workers if w.breaker != "open" and model in w.clips_per_s]
    return sum(rates) if rates else None


def retry_after(excess: float, ahead: float, per_s: float | None) -> float:
    """Seconds after which a refused job of `excess` clips too many may be sent again.

    Not before the room that it lacks has been drained at `per_s` clips a second. Then spread over half of the time that
    the clips `ahead` of it take, 10 s at most: those who are refused in one second would otherwise all come back in
    another one, to room for a few of them.
    """
    if per_s is None:
        return RETRY_AFTER_S
    spread = min(ahead / per_s / 2, MOST_SPREAD_S)
    return max(1.0, excess / per_s) + _random.uniform(0.0, spread)


class QueueCapacity:
    """Reservations of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: RedisKeys, limits: CapacityConfig) -> None:
        self._redis = redis
        self._keys = keys
        self._limits = limits
        self._reserve = redis.register_script(RESERVE)
        self._release = redis.register_script(RELEASE)
        self._renew = redis.register_script(RENEW)

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
        """Reserve capacity, or raise QueueFull: for its clips, for its bytes, or because the wait would be too long.

        A job may wait `max_wait_share` of its `deadline_s`, as the drain `rate` in clips per second has it. There must
        be room for `most_clips`, though it is not reserved yet. `instead` is given up for it in the same step, unless
        it is refused. A caller that holds room already gets more only within `caller_share`, unless it is not `shared`.
        """
        limits = self._limits
        counted = routes(served)
        share = limits.worker_interactive_weight / (limits.worker_interactive_weight + 1)
        usable = None if rate is None else rate * (1.0 if wanted.job_class is JobClass.BULK else share)
        most_ahead = limits.max_queue_clips if usable is None else usable * deadline_s * limits.max_wait_share
        asked = replace(wanted, clips=most_clips or wanted.clips)
        with translate_redis_errors():
            reply: Any = await self._reserve(
                keys=[
                    self._keys.reserved,
                    self._keys.deadlines,
                    self._keys.held(wanted.digest),
                    *(self._keys.clips(route, job_class) for route in counted for job_class in JobClass),
                ],
                args=[
                    limits.reservation_ttl_s,
                    wanted.member,
                    wanted.model,
                    wanted.job_class,
                    wanted.clips,
                    wanted.clip_bytes,
                    limits.max_queue_clips,
                    limits.max_queue_bytes,
                    most_ahead,
                    asked.clips,
                    instead.member if instead else "",
                    wanted.digest,
                    FairShare(limits.caller_share).per_free if shared and wanted.caller else -1,
                    self._keys.scores(""),
                    *(part for spec in counted.values() for part in (spec.name, spec.clip_bytes)),
                ],
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
        """Give the room back, and with it what clips were stored of a job that was not accepted; harmless when gone."""
        with translate_redis_errors():
            await self._release(
                keys=[self._keys.reserved, self._keys.job(reservation.job_id)],
                args=[reservation.member, reservation.clips, self._keys.payload(reservation.job_id, "")],
            )

    async def drop(self, reservations: Iterable[Reservation]) -> None:
        """Forget reservations whose clips, if there are any, belong to others by now."""
        members = [one.member for one in reservations]
        if members:
            with translate_redis_errors():
                await self._redis.zrem(self._keys.reserved, *members)

    async def renew(self, reservations: Iterable[Reservation]) -> None:
        """Keep reservations whose uploads go on, and the clips that were stored under them."""
        kept = list(reservations)
        if not kept:
            return
        with translate_redis_errors():
            await self._renew(
                keys=[self._keys.reserved, *(self._keys.job(one.job_id) for one in kept)],
                args=[
                    self._limits.reservation_ttl_s,
                    *(part for one in kept for part in (one.member, one.clips, self._keys.payload(one.job_id, ""))),
                ],
            )
