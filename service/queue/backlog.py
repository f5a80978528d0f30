"""The backlog of each model by class, for the gauges."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio import Redis

from service.contracts import JobClass
from service.queue.clip_routes import model_of
from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys


class Backlog(NamedTuple):
    """The clips of one model and class that are queued or being scored."""

    clips: int
    oldest_s: float
    """seconds since the oldest was enqueued; 0 when there is none"""


async def backlogs(redis: Redis, keys: RedisKeys) -> dict[str, dict[JobClass, Backlog]]:
    """The clips that are queued or being scored, by model. Raises QueueUnavailable when Redis cannot be reached."""
    with translate_redis_errors():
        routes: Any = await redis.zrange(keys.routes, 0, -1)
        streams = [
            (model_of(route), cls, keys.clips(route, cls)) for route in map(bytes.decode, routes) for cls in JobClass
        ]
        pipe = redis.pipeline(transaction=True)
        pipe.time()
        for *_, stream in streams:
            pipe.xlen(stream)
            pipe.xrange(stream, count=1)
        (seconds, micros), *found = await pipe.execute()
    now_ms = seconds * 1000 + micros // 1000
    waiting: dict[str, dict[JobClass, Backlog]] = {}
    for (model, job_class, _), clips, head in zip(streams, found[::2], found[1::2], strict=True):
        oldest_s = max(0.0, (now_ms - int(head[0][0].split(b"-")[0])) / 1000) if head else 0.0
        of_model = waiting.setdefault(model, {cls: Backlog(0, 0.0) for cls in JobClass})
        others = of_model[job_class]
        of_model[job_class] = Backlog(others.clips + clips, max(others.oldest_s, oldest_s))
    return waiting
