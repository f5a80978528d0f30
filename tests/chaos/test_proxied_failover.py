"""Sentinels replace servers behind a proxy that knows of no Sentinel: what a 202 has promised is there, and once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.test_failover import Drill, body, service
from tests.fixtures.redis_sets import Sentinels
from tests.fixtures.role_proxy import role_proxy

__all__ = ["body"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


async def test_a_proxy_leads_to_the_replica_that_has_replaced_a_killed_primary(tmp_path: Path, body: bytes) -> None:
    with (
        Sentinels(tmp_path / "redis").running() as sentinels,
        role_proxy(tmp_path / "proxy", sentinels.set.servers) as port,
        service(tmp_path / "service", f"redis://127.0.0.1:{port}/0") as running,
    ):
        drill = Drill(running, body)
        await drill.begin()
        old = sentinels.primary
        old.kill()
        await asyncio.to_thread(sentinels.until_replaced, old)
        drill.writable()
        await drill.end("a proxy before Sentinels, the primary is killed")


async def test_a_proxy_leads_to_two_primaries_of_which_one_has_no_replicas(tmp_path: Path, body: bytes) -> None:
    # After a planned failover the old primary says for some seconds that it is one; without replicas it refuses writes.
    with (
        Sentinels(tmp_path / "redis", min_replicas_to_write="1", min_replicas_max_lag="2").running() as sentinels,
        role_proxy(tmp_path / "proxy", sentinels.set.servers) as port,
        service(tmp_path / "service", f"redis://127.0.0.1:{port}/0", redis_wait_replicas=2) as running,
    ):
        drill = Drill(running, body)
        await drill.begin()
        await asyncio.to_thread(sentinels.fail_over)
        await asyncio.to_thread(sentinels.until_whole)
        drill.writable()
        await drill.end("a proxy before Sentinels, min-replicas-to-write, a planned failover")
