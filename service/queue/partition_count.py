"""The number of partitions that an installation began with: another number would look for jobs in other places."""

from __future__ import annotations

from typing import Any

import structlog

from service.errors import PartitionsChanged, QueueUnavailable
from service.queue.connection import translate_redis_errors
from service.queue.partitions import QueueAddress
from service.queue.redis_keys import RedisKeys

log = structlog.get_logger()


async def check_count(address: QueueAddress) -> None:
    """Raise PartitionsChanged where the queue has another number of partitions than this process.

    The first process writes the number down. With one partition nothing is written or read: earlier releases know no
    other number. A Redis that cannot be reached is no reason not to start.
    """
    if address.queue_partitions == 1:
        return
    try:
        stored = await stored_count(address, write=True)
    except QueueUnavailable as error:
        log.warning("queue_unavailable", detail=error.detail)
        return
    if stored is not None and stored != address.queue_partitions:
        raise PartitionsChanged(
            f"The queue in Redis has {stored} partitions, and `queue_partitions` is {address.queue_partitions}."
            f" Set it to {stored}; docs/partitions.md says how to change it.",
            limit=stored,
            actual=address.queue_partitions,
        )


async def stored_count(address: QueueAddress, *, write: bool = False) -> int | None:
    """The number that is written down. `write` stores that of this process where there is none.

    Raises QueueUnavailable when Redis cannot be reached.
    """
    keys = RedisKeys(f"{{{address.redis_prefix}}}")
    redis = address.client(keys, "vidtr-partitions")
    try:
        with translate_redis_errors():
            if write:
                await redis.set(keys.partitions, address.queue_partitions, nx=True)
            found: Any = await redis.get(keys.partitions)
    finally:
        await redis.aclose()
    return None if found is None else int(found)
