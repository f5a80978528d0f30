"""What `vidtr doctor` says of the partitions of the queue: where they are, and whether the queue has as many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from service.cli.doctor_findings import Finding
from service.cli.doctor_redis import TIMEOUT_S
from service.settings import Settings


def partitions(settings: Settings) -> Iterator[Finding]:
    """Of a queue that has several."""
    if settings.queue_partitions > 1 and "redis_url" in settings.model_fields_set:
        yield asyncio.run(_partitions(settings))


async def _partitions(settings: Settings) -> Finding:
    from service.errors import QueueUnavailable
    from service.queue.connection import translate_redis_errors
    from service.queue.partition_count import stored_count
    from service.queue.partitions import QueueAddress, close

    name, address = "queue partitions", settings.subset(QueueAddress)
    servers: dict[str, list[int]] = {}
    parts = address.connect("doctor", socket_timeout_s=TIMEOUT_S)
    try:
        stored = await stored_count(address)
        for number, part in enumerate(parts):
            with translate_redis_errors():
                servers.setdefault((await part.redis.info("server"))["run_id"], []).append(number)
    except QueueUnavailable as error:
        return Finding(name, "failed", error.detail, "is every server of the cluster up, and its slots covered?")
    finally:
        await close(parts)
    if stored not in (None, len(parts)):
        advice = f"set VIDTR_QUEUE_PARTITIONS={stored}; docs/partitions.md says how to change it"
        return Finding(name, "failed", f"the queue has {stored}, and the setting is {len(parts)}", advice)
    busiest = max(map(len, servers.values()))
    if busiest * len(servers) >= 2 * len(parts):
        found = f"{len(parts)} on {len(servers)} servers, {busiest} of them on one"
        return Finding(name, "warning", found, "move slots between the servers, or take more partitions")
    return Finding(name, "ok", f"{len(parts)} on {len(servers)} servers, {busiest} on one at most")
