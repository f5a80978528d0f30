"""A good caller beside one of twelve kinds of abuser: it is served, and what the abuser may take has an end.

`VIDTR_TEST_NOISE` is how many connections an abuser has; `python -m benchmarks.noisy_neighbours` measures the times.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis

from benchmarks.common.abusers import ABUSERS
from benchmarks.common.http import Client
from benchmarks.noisy_neighbours import Good, Scene, beside, scene
from service.queue.redis_keys import RedisKeys
from tests.fixtures.replies import members

CONNECTIONS = int(os.environ.get("VIDTR_TEST_NOISE", "40"))
REQUESTS = max(15, CONNECTIONS // 2)
KEYS = RedisKeys("vidtr")
MIB = 1 << 20
PATIENCE_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A program with few places, and a good caller that is warm."""
    with scene(tmp_path_factory.mktemp("noise"), CONNECTIONS) as running:
        yield running


def unowned(server: redis.Redis) -> set[str]:
    """Jobs of which clips stand in Redis though they were never accepted, and no reservation counts them."""
    jobs = {key.decode().split(":")[2] for key in server.scan_iter(f"{KEYS.payload('*', '*')}", count=1000)}
    reserved = {member.decode()[:32] for member in members(server.zrange(KEYS.reserved, 0, -1))}
    return {job for job in jobs if job not in reserved and not server.exists(KEYS.job(job))}


def refused(running: Scene, of: str) -> float:
    """How often a caller had used up its share."""
    text = httpx.get(f"{running.program.url}/metrics").text
    [value] = re.findall(rf'^vidtr_share_refusals_total{{of="{of}"}} (\S+)$', text, re.M)
    return float(value)


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"not seen: {what}"
        await asyncio.sleep(0.1)


# What an abuser is to be refused with as many connections as it has here.
SHARES = {
    "silent_uploads": "uploads",
    "dripping_uploads": "uploads",
    "uploads_with_a_used_key": "uploads",
    "followers": "followers",
}


@pytest.mark.parametrize("name", list(ABUSERS))
async def test_a_good_caller_is_served_beside_an_abuser_whose_hold_is_bounded(running: Scene, name: str) -> None:
    good, api = Good(), running.program.process("api")
    client = Client(running.program.port)
    await Good().send(client, running.message, 3)
    before, share = api.memory_info().rss, SHARES.get(name)
    refused_before = refused(running, share) if share else 0.0
    async with beside(running, name) as target:
        await good.send(client, running.message, REQUESTS)
        client.close()
        # A crowd needs its time to begin on a machine that does much else.
        await until(lambda: target.sent > 0, "the abuser has begun")
        if share:
            await until(lambda: refused(running, share) > refused_before, f"its share of {share} is used up")
        grown, connections = api.memory_info().rss - before, len(api.net_connections())
    assert good.statuses == REQUESTS * [200]
    assert grown < 200 * MIB
    assert connections < 1000
    with redis.Redis.from_url(running.program.redis_url) as server:
        await until(lambda: not unowned(server), "no clips are left that nobody owns")
