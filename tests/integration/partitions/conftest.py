"""A queue of four partitions on one real Redis, of which the second can be cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import redis as redis_py

from service.queue.connection import connect
from service.queue.job_store import JobStore
from service.queue.model_directory import ModelDirectory
from service.queue.partitions import Partition, PerPartition, QueueAddress, close, job_id_in, number_of
from tests.fixtures.access_list import NAME, PASSWORD
from tests.fixtures.keyspace import immortal
from tests.fixtures.link import Cut, Link
from tests.fixtures.queue_servers import QueueServers
from tests.integration.conftest import TIMES

COUNT, LOST = 4, 1


@pytest.fixture
def address(redis_url: str, servers: QueueServers) -> Iterator[QueueAddress]:
    """Where the queue is; whatever a test does, none of its keys lives for ever."""
    address = QueueAddress(redis_url, f"test-{uuid4().hex}", COUNT)
    yield address
    for keys in address.key_names():
        with redis_py.Redis.from_url(servers.server_of(keys.prefix)) as client:
            assert immortal(client, keys) == []


@pytest.fixture
def link(servers: QueueServers, address: QueueAddress) -> Iterator[Link]:
    """The way to the second partition."""
    link = servers.link(address.key_names()[LOST].prefix)
    yield link
    link.close()


@pytest.fixture
async def partitions(address: QueueAddress, link: Link) -> AsyncIterator[PerPartition[Partition]]:
    partitions = connected(address, link)
    yield partitions
    await close(partitions)


def connected(address: QueueAddress, link: Link) -> PerPartition[Partition]:
    """What another process has: clients of its own."""
    through = f"redis://{NAME}:{PASSWORD}@127.0.0.1:{link.port}"
    return PerPartition(
        Partition(connect(through, name="tests") if number == LOST else address.client(keys, "tests"), keys)
        for number, keys in enumerate(address.key_names())
    )


@pytest.fixture
def stores(partitions: PerPartition[Partition]) -> PerPartition[JobStore]:
    return partitions.map(lambda of: JobStore(of.redis, of.keys, TIMES))


@pytest.fixture
def directories(partitions: PerPartition[Partition]) -> PerPartition[ModelDirectory]:
    return partitions.map(lambda of: ModelDirectory(of.redis, of.keys))


@pytest.fixture
def lost(link: Link) -> Link:
    """The way to the second partition, cut."""
    link.cut(Cut.CLOSED)
    return link


def job_in(number: int) -> str:
    """An id for a job in a partition."""
    return job_id_in(number, COUNT)


def partition_of(job_id: str) -> int:
    """The number of the partition of a job."""
    return number_of(job_id, COUNT)


def homed(number: int, names: PerPartition[object], prefix: str = "") -> str:
    """A name, beginning with `prefix`, whose home is a partition."""
    return next(name for name in (f"{prefix}name-{i}" for i in range(1000)) if names.home_number(name) == number)
