"""Whether Redis takes writes: a replica, and a primary without its replicas, answer everything else."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from service.queue.connection import translate_redis_errors
from service.queue.redis_keys import RedisKeys

LIFE_MS = 1000


async def check_writable(redis: Redis, keys: RedisKeys) -> None:
    """Write one small key that expires. Raises QueueUnavailable; not where Redis is full, which ends by itself."""
    with translate_redis_errors():
        try:
            await redis.set(keys.write_probe, b"", px=LIFE_MS)
        except OutOfMemoryError:
            return
