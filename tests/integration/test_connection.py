"""What the rooms may ask of one Redis client."""

import asyncio

from service.queue.jobs import JobStore

AT_ONCE = 300


async def test_hundreds_of_requests_may_ask_redis_in_the_same_moment(store: JobStore) -> None:
    assert await asyncio.gather(*(store.waiting("tiny") for _ in range(AT_ONCE))) == [0] * AT_ONCE
