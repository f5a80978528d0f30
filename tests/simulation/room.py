"""Whether what the queue counts as taken is what stands in Redis at that moment: clips, bytes and shares of callers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.contracts import JobClass
from service.errors import QueueFull
from service.queue.capacity import CapacityConfig, QueueCapacity, Reservation
from service.queue.clip_routes import masked_route_of, routes
from service.queue.partitions import number_of
from service.queue.redis_keys import RedisKeys
from tests.simulation.backend import MASKED, SPEC

if TYPE_CHECKING:
    from tests.simulation.processes import Api
    from tests.simulation.world import World

ASKED_S = 60.0
MOST_CLIPS, MOST_BYTES = 1 << 30, 1 << 40


@dataclass(frozen=True)
class Taken:
    """What is in flight, and how much of it is one caller's."""

    clips: int
    size: int
    own_clips: int
    own_size: int


async def check(world: World, api: Api, number: int, owner: str) -> None:
    """Ask a partition for a clip where none fits, and compare what the refusals say with what stands in Redis."""
    job_id = f"{world.ids.getrandbits(128):032x}"
    asked = Reservation(job_id, JobClass.BULK, 1, SPEC.clip_bytes, SPEC.name, owner)
    limits = replace(api.limits, max_queue_clips=MOST_CLIPS, max_queue_bytes=MOST_BYTES)

    async def refused(limits: CapacityConfig) -> tuple[QueueFull | None, Taken]:
        capacity = QueueCapacity(api.partitions[number].redis, world.keys[number], limits)
        try:
            await capacity.reserve(asked, [SPEC], None, ASKED_S)
        except QueueFull as full:
            return full, _taken(world, number, owner)
        await capacity.release(asked)
        return None, _taken(world, number, owner)

    full, taken = await refused(replace(limits, max_queue_clips=0))
    _compare(world, full, taken.clips + 1)
    full, taken = await refused(replace(limits, max_queue_bytes=0))
    _compare(world, full, taken.size + asked.clip_bytes)
    if not owner:
        return
    # One more fits, but not for who has some already. What is in flight may be another by then.
    full, taken = await refused(replace(limits, max_queue_clips=taken.clips + 1))
    if full is not None and full.share_of:
        _compare(world, full, taken.own_clips + 1)
    full, taken = await refused(replace(limits, max_queue_bytes=taken.size + asked.clip_bytes))
    if full is not None and full.share_of:
        _compare(world, full, taken.own_size + asked.clip_bytes)


def _compare(world: World, full: QueueFull | None, right: int) -> None:
    if full is None:
        world.ledger.violated("an upload has room where there is none")
    elif full.actual != right:
        world.ledger.violated("what is in flight is counted wrong")


def _taken(world: World, number: int, owner: str) -> Taken:
    """What stands in Redis now, without the scripts."""
    keys, server = world.keys[number], world.server
    clips = size = own_clips = own_size = 0
    for route in routes([SPEC]):
        for job_class in JobClass:
            waiting = server.one("XLEN", keys.clips(route, job_class))
            clips, size = clips + waiting, size + waiting * _each(route)
    digest = Reservation("", JobClass.BULK, 0, 0, "", owner).digest
    for member in server.one("ZRANGEBYSCORE", keys.reservations, f"({server.now_ms / 1000}", "+inf"):
        holder, _, many, each, _ = member.decode().split(":")
        clips, size = clips + int(many), size + int(many) * int(each)
        if owner and holder.partition("x")[2] == digest:
            own_clips, own_size = own_clips + int(many), own_size + int(many) * int(each)
    for job_id, job in world.ledger.jobs.items():
        if job.record.owner == owner and number_of(job_id, len(world.keys)) == number:
            left = _unscored(world, keys, job_id)
            own_clips, own_size = own_clips + left, own_size + left * _each(job.record.spec.route)
    return Taken(clips, size, own_clips, own_size)


def _each(route: str) -> int:
    """Bytes of an entry: those with frames left out share the stored clip with the whole one."""
    return SPEC.clip_bytes // (1 + len(MASKED) if route == masked_route_of(SPEC) else 1)


def _unscored(world: World, keys: RedisKeys, job_id: str) -> int:
    """Clips of a job that are queued and have no scores; none where it has ended."""
    total, finished, queued = world.server.one("HMGET", keys.job(job_id), "total", "finished", "queued")
    if total is None or finished is not None:
        return 0
    return int(queued or total) - int(world.server.one("HLEN", keys.scores(job_id)))
