"""A queue of three partitions on a Redis Cluster: what happens to one server stops the others for nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot

from service.queue.partitions import QueueAddress, number_of
from service.queue.redis_keys import RedisKeys
from tests.chaos.rig import PREFIX
from tests.chaos.test_failover import Drill, body, service
from tests.fixtures.keyspace import unfinished
from tests.fixtures.redis_sets import Cluster, Server, until

__all__ = ["body"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COUNT = 3
KEYS = QueueAddress("redis://any", PREFIX, COUNT).key_names()
TAGS = [keys.prefix.strip("{}") for keys in KEYS]


async def test_a_cluster_shares_the_partitions_and_loses_nothing_of_them(tmp_path: Path, body: bytes) -> None:
    cluster = Cluster(tmp_path / "redis")
    with (
        cluster.running(),
        service(tmp_path / "service", cluster.url, queue_partitions=COUNT) as running,
    ):
        assert len({cluster.owner(tag).port for tag in TAGS}) == COUNT
        drill = Drill(running, body)
        await a_primary_is_killed(drill, cluster)
        await a_slot_is_moved(drill, cluster)
        for number, keys in enumerate(KEYS):
            owner = cluster.owner(TAGS[number])
            await asyncio.to_thread(until, partial(_nothing_left, owner, keys), "nothing is left")


def _nothing_left(server: Server, keys: RedisKeys) -> bool:
    return not unfinished(server.client, keys)


async def a_primary_is_killed(drill: Drill, cluster: Cluster) -> None:
    """The other partitions go on; the lost one comes back with its replica."""
    await drill.begin()
    old = cluster.owner(TAGS[1])
    old.kill()
    await asyncio.to_thread(until, lambda: cluster.owner(TAGS[1]) is not old, "a replica has taken over")
    # It needs a replica itself before it may promise anything.
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(cluster.until_whole)
    drill.writable()
    await drill.end("one primary of three is killed")
    assert {number_of(job, COUNT) for ids in drill.load.account.ids.values() for job in ids} == set(range(COUNT))


async def a_slot_is_moved(drill: Drill, cluster: Cluster) -> None:
    """Resharding under load: there and back again."""
    await drill.begin()
    slot, old = key_slot(TAGS[2].encode()), cluster.owner(TAGS[2])
    new = cluster.owner(TAGS[0])
    await asyncio.to_thread(moved, cluster, slot, old, new)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(moved, cluster, slot, new, old)
    drill.writable()
    await drill.end("the slot of a partition is moved, there and back")


def moved(cluster: Cluster, slot: int, old: Server, new: Server) -> None:
    cluster.begin_move(slot, old, new)
    cluster.end_move(slot, old, new)
    until(lambda: cluster.owner(TAGS[2]) is new, "the slot has moved")
