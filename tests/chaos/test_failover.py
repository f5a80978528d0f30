"""Redis fails over in every way that servers are replaced: what a 202 has promised is there, and once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testing.videos import write_video
from tests.chaos.rig import PREFIX, Load, Service
from tests.fixtures.link import Link
from tests.fixtures.redis_sets import Cluster, ReplicaSet, Sentinels, Server, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FAILOVERS = int(os.environ.get("VIDTR_FAILOVERS", "10"))
JOBS_EACH = int(os.environ.get("VIDTR_FAILOVER_JOBS", "30"))
RATE_PER_S = 6.0
# Longer than the two seconds for which a command is sent again.
LAG_S = 3.0


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 75, fps=25, size=(96, 64)).read_bytes()


class Drill:
    """Loads on one service, each with one failover in it."""

    def __init__(self, service: Service, body: bytes) -> None:
        self._service = service
        self._body = body
        self._writable_at = 0.0

    async def begin(self) -> None:
        """Start a load, and return when a third of it is sent."""
        self.load = Load(self._service.ports, self._body, JOBS_EACH, rate_per_s=RATE_PER_S, follow_answers=False)
        self._running = asyncio.create_task(self.load.run())
        while self.load.started < JOBS_EACH / 3:  # noqa: ASYNC110 - the load goes on by itself
            await asyncio.sleep(0.02)

    def writable(self) -> None:
        """From now on a server takes writes again."""
        self._writable_at = time.monotonic()

    async def end(self, scenario: str) -> None:
        """Wait for the load, print its line, and check that all promises were kept."""
        account = await self._running
        kept = await self.load.states_of(account.promised)
        after = [taken - self._writable_at for taken in account.taken_at if taken > self._writable_at]
        recovered = f"{min(after):.1f} s" if after else "before the failover was over"
        print(f"\n{account.line(scenario, 0)}; promised {len(account.promised)}, taken again after {recovered}")
        assert account.accepted == JOBS_EACH
        assert account.gave_up == account.lost == account.unfinished == account.twice == 0
        assert kept == {"succeeded": len(account.promised)}
        assert account.states["succeeded"] == JOBS_EACH


@contextmanager
def service(folder: Path, redis_url: str, **settings: Any) -> Iterator[Service]:
    """An API and a worker whose 202 waits for one replica."""
    of_the_drill: dict[str, Any] = {"redis_wait_replicas": 1, "redis_durability": "require", **settings}
    with Service(folder, apis=1, workers=1, redis_url=redis_url, **of_the_drill).running() as running:
        yield running


async def test_sentinels_plan_one_failover_after_the_other(tmp_path: Path, body: bytes) -> None:
    # The old primary goes on beside the new one, with the replica that is left: only all replicas together will do.
    with (
        Sentinels(tmp_path / "redis").running() as sentinels,
        service(tmp_path / "service", sentinels.url, redis_wait_replicas=2) as running,
    ):
        drill = Drill(running, body)
        for number in range((FAILOVERS + 1) // 2):
            await drill.begin()
            await asyncio.to_thread(sentinels.fail_over)
            await asyncio.to_thread(sentinels.mend)
            drill.writable()
            await drill.end(f"planned Sentinel failover {number + 1}")


async def test_sentinels_replace_one_killed_primary_after_the_other(tmp_path: Path, body: bytes) -> None:
    with Sentinels(tmp_path / "redis").running() as sentinels, service(tmp_path / "service", sentinels.url) as running:
        drill = Drill(running, body)
        for number in range(FAILOVERS // 2):
            await drill.begin()
            old = sentinels.primary
            old.kill()
            await asyncio.to_thread(sentinels.until_replaced, old)
            drill.writable()
            await drill.end(f"unplanned Sentinel failover {number + 1}")
            await asyncio.to_thread(old.start)
            await asyncio.to_thread(sentinels.mend)


async def test_one_name_leads_to_another_server(tmp_path: Path, body: bytes) -> None:
    replica_set = ReplicaSet(tmp_path / "redis")
    with replica_set.running():
        first, second = replica_set.servers
        name = Link(first.port)
        try:
            with service(tmp_path / "service", f"redis://127.0.0.1:{name.port}/0") as running:
                drill = Drill(running, body)
                await lives_on(drill, replica_set, name, first, second)
                await killed(drill, replica_set, name, second, first)
                await lagging(drill, replica_set, name, first, second)
        finally:
            name.close()


async def lives_on(drill: Drill, replica_set: ReplicaSet, name: Link, old: Server, new: Server) -> None:
    """The old primary goes on as a replica of the new one, and keeps its connections."""
    await drill.begin()
    await asyncio.to_thread(replica_set.follow, new)
    name.redirect(new.port)
    drill.writable()
    await drill.end("the old primary lives on as a replica")


async def killed(drill: Drill, replica_set: ReplicaSet, name: Link, old: Server, new: Server) -> None:
    """The old primary is gone, and its replica, in step with it, takes its place; it comes back as a replica."""
    await drill.begin()
    old.kill()
    new.follow(None)
    name.redirect(new.port)
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(replica_set.follow, new)
    drill.writable()
    await drill.end("the primary is killed")


async def lagging(drill: Drill, replica_set: ReplicaSet, name: Link, old: Server, new: Server) -> None:
    """The replica has received nothing for some seconds when it takes the place of the killed primary."""
    line = Link(old.port)
    try:
        new.client.execute_command("REPLICAOF", "127.0.0.1", line.port)
        await asyncio.to_thread(until, new.in_step, "the replica is in step")
        await drill.begin()
        line.cut()
        await asyncio.sleep(LAG_S)
        old.kill()
        new.follow(None)
        name.redirect(new.port)
    finally:
        line.close()
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(replica_set.follow, new)
    drill.writable()
    await drill.end("the primary is killed, its replica behind")


async def test_a_cluster_replaces_the_server_of_the_queue(tmp_path: Path, body: bytes) -> None:
    cluster = Cluster(tmp_path / "redis")
    tag = PREFIX
    with cluster.running(), service(tmp_path / "service", cluster.url) as running:
        drill = Drill(running, body)
        await drill.begin()
        await asyncio.to_thread(cluster.fail_over, cluster.owner(tag))
        drill.writable()
        await drill.end("planned failover of a cluster")
        await asyncio.to_thread(cluster.until_whole)
        await drill.begin()
        old = cluster.owner(tag)
        old.kill()
        await asyncio.to_thread(until, lambda: cluster.owner(tag) is not old, "a replica has taken over")
        # It needs a replica itself before it may promise anything.
        await asyncio.to_thread(old.start)
        await asyncio.to_thread(cluster.until_whole)
        drill.writable()
        await drill.end("the primary of a cluster is killed")
