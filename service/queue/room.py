"""Room in the queue: reserved before an upload is read, handed over to its clips when the job is accepted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

from redis.asyncio import Redis

from service.contracts import JobClass, ModelSpec, WorkerStatus
from service.errors import QueueFull
from service.queue.connection import reported
from service.queue.keys import Keys

# Used while no worker has measured anything.
RETRY_AFTER_S = 2.0
MOST_SPREAD_S = 10.0
_random = SystemRandom()

# What is in flight is the streams themselves plus what is reserved: nothing is counted up and down, so nothing drifts.
# KEYS: reservations, then two streams for each served model. ARGV: now, end of the reservation, its member, model,
# class, clips, bytes of one clip, most clips, most bytes, most clips ahead, then name and clip bytes of each model.
RESERVE = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local ahead, bytes = {interactive = 0, bulk = 0}, 0
for i = 11, #ARGV, 2 do
  local at = i - 9
  local interactive, bulk = redis.call('XLEN', KEYS[at]), redis.call('XLEN', KEYS[at + 1])
  bytes = bytes + (interactive + bulk) * ARGV[i + 1]
  if ARGV[i] == ARGV[4] then ahead.interactive, ahead.bulk = interactive, bulk end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local class, clips, size, model = member:match('^%w+:(%a+):(%d+):(%d+):(.+)$')
  bytes = bytes + clips * size
  if model == ARGV[4] then ahead[class] = ahead[class] + clips end
end
local wanted, all = tonumber(ARGV[6]), ahead.interactive + ahead.bulk
local first = ARGV[5] == 'bulk' and all or ahead.interactive
local refused = ''
if all + wanted > tonumber(ARGV[8]) then refused = 'clips'
elseif bytes + wanted * ARGV[7] > tonumber(ARGV[9]) then refused = 'bytes'
elseif first + wanted > tonumber(ARGV[10]) and first > 0 then refused = 'wait'
else redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3]) end
return {refused, all, bytes, first}
"""


@dataclass(frozen=True)
class RoomLimits:
    """Field names equal those of `service.settings.Settings`."""

    max_queue_clips: int
    max_queue_bytes: int
    max_wait_share: float
    reservation_ttl_s: float
    worker_interactive_weight: int


@dataclass(frozen=True)
class Reservation:
    """Room for the clips of one job that is not accepted yet."""

    job_id: str
    job_class: JobClass
    clips: int
    clip_bytes: int
    model: str

    @property
    def member(self) -> str:
        """How it stands in Redis."""
        return f"{self.job_id}:{self.job_class}:{self.clips}:{self.clip_bytes}:{self.model}"


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


class Room:
    """Reservations of one installation. Methods raise QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, keys: Keys, limits: RoomLimits) -> None:
        self._redis = redis
        self._keys = keys
        self._limits = limits
        self._reserve = redis.register_script(RESERVE)

    async def reserve(
        self, wanted: Reservation, served: Sequence[ModelSpec], rate: float | None, deadline_s: float
    ) -> None:
        """Reserve room, or raise QueueFull: for its clips, for its bytes, or because the wait would be too long.

        A job may wait `max_wait_share` of its `deadline_s`, as the drain `rate` in clips per second has it.
        """
        limits, now = self._limits, time.time()
        sizes = {spec.name: spec.clip_bytes for spec in served}
        share = limits.worker_interactive_weight / (limits.worker_interactive_weight + 1)
        usable = None if rate is None else rate * (1.0 if wanted.job_class is JobClass.BULK else share)
        most_ahead = limits.max_queue_clips if usable is None else usable * deadline_s * limits.max_wait_share
        with reported():
            reply: Any = await self._reserve(
                keys=[
                    self._keys.reserved,
                    *(self._keys.clips(name, job_class) for name in sizes for job_class in JobClass),
                ],
                args=[
                    now,
                    now + limits.reservation_ttl_s,
                    wanted.member,
                    wanted.model,
                    wanted.job_class,
                    wanted.clips,
                    wanted.clip_bytes,
                    limits.max_queue_clips,
                    limits.max_queue_bytes,
                    most_ahead,
                    *(part for pair in sizes.items() for part in pair),
                ],
            )
        refused, clips, size, first = reply[0].decode(), int(reply[1]), int(reply[2]), int(reply[3])
        if not refused:
            return
        raise self._full(wanted, refused, clips, size, first, usable, most_ahead)

    def _full(
        self,
        wanted: Reservation,
        refused: str,
        clips: int,
        size: int,
        first: int,
        usable: float | None,
        most_ahead: float,
    ) -> QueueFull:
        limits = self._limits
        if refused == "clips":
            excess = float(clips + wanted.clips - limits.max_queue_clips)
            detail, limit, actual = (
                f"{clips} clips are in flight for model {wanted.model}, and this video may have {wanted.clips}",
                float(limits.max_queue_clips),
                float(clips + wanted.clips),
            )
        elif refused == "bytes":
            excess = (size + wanted.clips * wanted.clip_bytes - limits.max_queue_bytes) / wanted.clip_bytes
            detail, limit, actual = (
                f"{size} bytes of clips are in flight, and this video may have {wanted.clips * wanted.clip_bytes}",
                float(limits.max_queue_bytes),
                float(size + wanted.clips * wanted.clip_bytes),
            )
        else:
            excess = first + wanted.clips - most_ahead
            per_s = usable or 1.0
            detail, limit, actual = (
                f"{first} clips would go before this video's, which is too long a wait for its deadline",
                round(most_ahead / per_s, 1),
                round((first + wanted.clips) / per_s, 1),
            )
        return QueueFull(
            detail,
            limit=limit,
            actual=actual,
            retry_after_s=retry_after(excess, first if refused == "wait" else clips, usable),
        )

    async def release(self, reservation: Reservation) -> None:
        """Give the room back; harmless when it is gone."""
        with reported():
            await self._redis.zrem(self._keys.reserved, reservation.member)

    async def renew(self, reservations: Iterable[Reservation]) -> None:
        """Keep reservations whose uploads go on."""
        until = time.time() + self._limits.reservation_ttl_s
        members: dict[Any, Any] = {reservation.member: until for reservation in reservations}
        if members:
            with reported():
                await self._redis.zadd(self._keys.reserved, members, xx=True)
