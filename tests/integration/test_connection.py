"""What the rooms may ask of one Redis client."""

import asyncio

from redis.asyncio import Redis

from service.queue.redis_keys import RedisKeys
from tests.integration.conftest import waiting

AT_ONCE = 300


async def test_hundreds_of_requests_may_ask_redis_in_the_same_moment(redis: Redis, keys: RedisKeys) -> None:
    assert await asyncio.gather(*(waiting(redis, keys) for _ in range(AT_ONCE))) == [0] * AT_ONCE
