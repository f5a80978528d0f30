"""A client writes to the primary, wherever it is: behind one name, behind Sentinels, in a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from service.errors import QueueUnavailable
from service.queue.connection import connect, run_all, translate_redis_errors
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from service.queue.result_bus import ResultBus
from service.queue.scripts import Call, Script
from tests.fixtures.link import Link
from tests.fixtures.redis_sets import Cluster, ReplicaSet, Sentinels, Server, until
from tests.integration.conftest import TIMES

NAME = "failover"
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("set")).running() as started:
        yield started


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("sentinels")).running() as started:
        yield started


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")).running() as started:
        yield started


@pytest.fixture
def pair(replica_set: ReplicaSet) -> tuple[Server, Server]:
    """The primary and its replica."""
    first, second = replica_set.servers
    replica_set.follow(first)
    return first, second


@pytest.fixture
def link(pair: tuple[Server, Server]) -> Iterator[Link]:
    """The one name of the set."""
    link = Link(pair[0].port)
    yield link
    link.close()


@asynccontextmanager
async def connected(url: str, tag: str = "") -> AsyncIterator[Redis]:
    client = connect(url, name=NAME, tag=tag)
    try:
        yield client
    finally:
        await client.aclose()


def key() -> str:
    return f"test:{uuid4().hex}"


async def promote(replica_set: ReplicaSet, link: Link, server: Server) -> None:
    """As managed services do: the name leads to the new primary, and the old one lives on as its replica."""
    await asyncio.to_thread(replica_set.follow, server)
    link.redirect(server.port)


def clients_at(server: Server) -> int:
    """Connections of the client under test."""
    return sum(one["name"] == NAME for one in server.client.client_list())


async def eventually(client: Redis, name: str) -> None:
    """Write as soon as that is possible."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await client.set(name, 1, px=60_000)
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.05)


async def test_the_first_write_after_a_failover_succeeds_though_the_old_primary_lives_on(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        await client.set(name := key(), "before")
        await promote(replica_set, link, pair[1])
        await client.set(name, "after")
    assert pair[1].client.get(name) == b"after"


async def test_every_connection_leaves_a_demoted_primary(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        await asyncio.gather(*(client.blpop(key(), 0.2) for _ in range(20)))
        assert clients_at(pair[0]) >= 20
        await promote(replica_set, link, pair[1])
        await client.set(key(), 1)
        until(lambda: clients_at(pair[0]) == 0, "no connection is left at the old primary")


async def test_many_writes_that_meet_a_failover_all_succeed(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        await asyncio.gather(*(client.set(key(), 1) for _ in range(30)))
        await promote(replica_set, link, pair[1])
        names = [key() for _ in range(120)]
        assert all(await asyncio.gather(*(client.set(name, 1) for name in names)))
        await asyncio.to_thread(until, lambda: clients_at(pair[0]) == 0, "no connection is left at the old primary")
    assert pair[1].client.exists(*names) == len(names)


async def test_a_connection_that_waits_while_its_server_is_demoted_goes_on_at_the_new_one(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client, connected(pair[1].url) as other:
        waiting = asyncio.ensure_future(client.blpop(name := key(), 9))
        await asyncio.sleep(0.2)
        await promote(replica_set, link, pair[1])
        await other.rpush(name, "item")
        assert await waiting == (name.encode(), b"item")


async def test_a_script_succeeds_at_a_server_that_does_not_know_it(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        touch, keys = Script(client, "touch_job"), RedisKeys("test")
        call = Call(keys={"job": keys.job("none")}, args={})
        assert await run_all(client, touch, [call]) == [0]
        pair[1].client.script_flush()
        await promote(replica_set, link, pair[1])
        assert await run_all(client, touch, [call]) == [0]


async def test_a_pipeline_of_scripts_is_sent_again_with_them(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        register, name = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])"), key()
        await register([name], ["before"])
        pair[1].client.script_flush()
        await promote(replica_set, link, pair[1])
        pipe = client.pipeline(transaction=False)
        for _ in range(2):
            await register([name], ["after"], client=pipe)
        assert await pipe.execute() == [b"OK", b"OK"]
    assert pair[1].client.get(name) == b"after"


async def test_a_transaction_is_sent_again(replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        await client.set(name := key(), 0)
        await promote(replica_set, link, pair[1])
        pipe = client.pipeline(transaction=True)
        pipe.set(name, 1)
        pipe.get(name)
        assert await pipe.execute() == [True, b"1"]


async def test_a_replica_alone_is_named_as_the_reason(pair: tuple[Server, Server]) -> None:
    async with connected(pair[1].url) as client:
        with pytest.raises(QueueUnavailable, match=r"takes no writes now: the server is a replica\. Try again"):
            with translate_redis_errors():
                await client.set(key(), 1)


async def test_missing_replicas_are_named_as_the_reason(pair: tuple[Server, Server]) -> None:
    pair[0].client.config_set("min-replicas-to-write", 5)
    try:
        async with connected(pair[0].url) as client:
            with pytest.raises(QueueUnavailable, match="fewer replicas than it requires"), translate_redis_errors():
                await client.set(key(), 1)
    finally:
        pair[0].client.config_set("min-replicas-to-write", 0)


async def test_a_command_waits_for_a_server_that_will_be_promoted(pair: tuple[Server, Server]) -> None:
    async with connected(pair[1].url) as client:
        writing = asyncio.ensure_future(client.set(name := key(), 1))
        await asyncio.sleep(0.3)
        pair[1].follow(None)
        assert await writing
        assert pair[1].client.exists(name)


async def test_a_subscription_leaves_a_demoted_primary(
    replica_set: ReplicaSet, pair: tuple[Server, Server], link: Link
) -> None:
    async with connected(f"redis://127.0.0.1:{link.port}") as client:
        keys = RedisKeys(key())
        bus = ResultBus(client, keys, JobStore(client, keys, TIMES), silent_s=1.0)
        await bus.start()
        await asyncio.to_thread(until, lambda: clients_at(pair[0]) == 1, "the bus listens")
        await promote(replica_set, link, pair[1])
        await asyncio.to_thread(until, lambda: clients_at(pair[0]) == 0, "the bus has left the old primary")
        await asyncio.to_thread(until, lambda: clients_at(pair[1]) == 1, "the bus listens at the new one")
        await bus.close()


async def test_a_service_that_the_sentinels_do_not_know_is_named(sentinels: Sentinels) -> None:
    async with connected(sentinels.url.replace("/vidtr", "/other")) as client:
        with pytest.raises(QueueUnavailable, match="know no service 'other'"), translate_redis_errors():
            await client.ping()


async def test_a_sentinel_that_is_taken_for_a_server_says_so(sentinels: Sentinels) -> None:
    async with connected(f"redis://127.0.0.1:{sentinels.ports[0]}") as client:
        with pytest.raises(QueueUnavailable, match="cannot be reached: it is a Sentinel"), translate_redis_errors():
            await client.ping()


async def test_sentinels_lead_to_the_replica_that_replaces_a_killed_primary(sentinels: Sentinels) -> None:
    killed = sentinels.primary
    async with connected(sentinels.url) as client:
        await client.set(key(), 1)
        killed.kill()
        await asyncio.to_thread(sentinels.until_replaced, killed)
        await eventually(client, name := key())
        assert sentinels.primary.client.exists(name)


async def test_sentinels_lead_to_the_primary_before_and_after_a_planned_failover(sentinels: Sentinels) -> None:
    async with connected(sentinels.url) as client:
        await client.set(first := key(), 1)
        assert sentinels.primary.client.exists(first)
        await asyncio.to_thread(sentinels.fail_over)
        async with asyncio.timeout(PATIENCE_S):
            # The old one takes writes until the Sentinels tell it, and the client leaves before.
            while True:
                await client.set(name := key(), 1)
                if sentinels.primary.client.exists(name):
                    break


@pytest.mark.parametrize("tag", ["vidtr", "vidtr:1", "vidtr:2", "vidtr:3"])
async def test_a_cluster_leads_to_the_server_that_has_the_tag(cluster: Cluster, tag: str) -> None:
    async with connected(cluster.url, tag) as client:
        await client.set(f"{{{tag}}}:key", 1)
        pipe = client.pipeline(transaction=True)
        pipe.set(f"{{{tag}}}:other", 1)
        pipe.get(f"{{{tag}}}:key")
        assert await pipe.execute() == [True, b"1"]
    assert cluster.owner(tag).client.get(f"{{{tag}}}:key") == b"1"


async def test_a_slot_that_was_moved_is_followed(cluster: Cluster) -> None:
    tag = "moving"
    slot, old = key_slot(tag.encode()), cluster.owner(tag)
    new = next(one for one in cluster.servers if one.role == "master" and one is not old)
    async with connected(cluster.url, tag) as client:
        await client.set(f"{{{tag}}}:key", "before")
        await asyncio.to_thread(cluster.begin_move, slot, old, new)
        await asyncio.to_thread(cluster.end_move, slot, old, new)
        assert await client.get(f"{{{tag}}}:key") == b"before"
        await client.set(f"{{{tag}}}:key", "after")
    assert new.client.get(f"{{{tag}}}:key") == b"after"


async def test_a_slot_that_is_being_moved_is_waited_for(cluster: Cluster) -> None:
    tag = "underway"
    slot, old = key_slot(tag.encode()), cluster.owner(tag)
    new = next(one for one in cluster.servers if one.role == "master" and one is not old)
    async with connected(cluster.url, tag) as client:
        await client.set(f"{{{tag}}}:key", 1)
        await asyncio.to_thread(cluster.begin_move, slot, old, new)
        with pytest.raises(QueueUnavailable, match="the keys are being moved"), translate_redis_errors():
            await client.set(f"{{{tag}}}:other", 1)
        waiting = asyncio.ensure_future(client.set(f"{{{tag}}}:other", 1))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(cluster.end_move, slot, old, new)
        assert await waiting
    assert new.client.exists(f"{{{tag}}}:key", f"{{{tag}}}:other") == 2


async def test_a_killed_primary_of_a_cluster_is_replaced(cluster: Cluster) -> None:
    tag = "killed"
    old = cluster.owner(tag)
    async with connected(cluster.url, tag) as client:
        await client.set(f"{{{tag}}}:key", "before")
        until(lambda: old.client.wait(1, 1000), "the replica has it")
        old.kill()
        await eventually(client, f"{{{tag}}}:other")
        assert await client.get(f"{{{tag}}}:key") == b"before"
        # A server that was not asked may hear of it later.
        until(lambda: cluster.owner(tag) is not old, "all servers know the new primary")
        assert clients_at(cluster.owner(tag)) > 0
    old.start()
    await asyncio.to_thread(cluster.until_whole)


async def test_a_planned_failover_of_a_cluster_is_followed_at_once(cluster: Cluster) -> None:
    tag = "planned"
    old = cluster.owner(tag)
    async with connected(cluster.url, tag) as client:
        await client.set(f"{{{tag}}}:key", "before")
        await asyncio.to_thread(cluster.fail_over, old)
        await client.set(f"{{{tag}}}:key", "after")
        until(lambda: clients_at(old) == 0, "no connection is left at the old primary")
    await asyncio.to_thread(cluster.until_whole)
