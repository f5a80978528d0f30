"""What waits in the queue of a model, by class: what the gauges show."""

from __future__ import annotations

import time
from dataclasses import dataclass

from redis.asyncio import Redis

from service.contracts import JobClass
from service.queue.connection import reported
from service.queue.keys import Keys


@dataclass(frozen=True)
class Backlog:
    """The clips of one model and class that are queued or being scored."""

    clips: int
    oldest_s: float
    """seconds since the oldest was enqueued; 0 when there is none"""


async def backlog(redis: Redis, keys: Keys, model: str) -> dict[JobClass, Backlog]:
    """What of `model` is queued or being scored. Raises QueueUnavailable when Redis cannot be reached."""
    with reported():
        pipe = redis.pipeline(transaction=True)
        for job_class in JobClass:
            pipe.xlen(keys.clips(model, job_class))
            pipe.xrange(keys.clips(model, job_class), count=1)
        found = await pipe.execute()
    now = time.time()
    return {
        job_class: Backlog(clips, max(0.0, now - int(head[0][0].split(b"-")[0]) / 1000) if head else 0.0)
        for job_class, clips, head in zip(JobClass, found[::2], found[1::2], strict=True)
    }
