"""No step asks more of Redis beside many workers, API processes, uploads and jobs than beside a few."""

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import service.queue
from benchmarks.common.crowd import Crowd, Steps
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.redis_keys import RedisKeys

FEW, MANY = 10, 400
LUA = Path(service.queue.__path__[0]) / "lua"
# Commands whose reply may be as long as what they read is.
WHOLE = re.compile(
    r"'(?:ZRANGE|XREVRANGE|XRANGE|LRANGE)', [\w.]+, (?:0, -1|'[+-]', '[+-]')\)|'(?:HGETALL|XINFO)'[^)]*\)"
)
BOUNDED = {
    "clear_streams": "models and routes",
    "live": "models and routes; workers of the release before; names of sums",
    "include/fleet": "shares of workers, where something else has changed the sums",
    "include/reservations": "reservations, where something else has changed the counts",
    "reserve": "reservations, where processes of the release before have some",
    "include/held_jobs": "jobs of the caller, for a fiftieth of the time at most",
    "include/delete_letters": "dead letters, whose number is limited",
    "trim_dead_letters": "dead letters, whose number is limited",
    "record_scores": "scores of the caller's job",
}


@pytest.fixture
async def unrestricted(redis_server: LocalRedis) -> AsyncIterator[Redis]:
    """A client that may ask for statistics."""
    client = connect(redis_server.url, name="growth")
    yield client
    await client.aclose()


async def calls(redis: Redis) -> Counter[str]:
    """How often each command was called, from within scripts too."""
    found: Any = await redis.info("commandstats")
    counted = Counter({name.removeprefix("cmdstat_"): facts["calls"] for name, facts in found.items()})
    # Those of the test itself.
    del counted["info"], counted["subscribe"]
    return counted


async def taken(redis: Redis, steps: Steps) -> dict[str, list[Counter[str]]]:
    """The commands of each step."""
    found: defaultdict[str, list[Counter[str]]] = defaultdict(list)

    async def counted(name: str, step: Awaitable[Any]) -> Any:
        before = await calls(redis)
        reply = await step
        found[name].append(await calls(redis) - before)
        return reply

    await steps.once(counted)
    return found


async def test_every_script_calls_as_many_commands_beside_many_others_as_beside_a_few(
    unrestricted: Redis, keys: RedisKeys
) -> None:
    crowd, steps = Crowd(unrestricted, keys), Steps(unrestricted, keys)
    await crowd.grow(FEW)
    # The first round loads the scripts.
    await taken(unrestricted, steps)
    few = await taken(unrestricted, steps)
    await crowd.grow(MANY)
    many = await taken(unrestricted, steps)
    await crowd.close()
    grown = {name: [more - less for more, less in zip(many[name], few[name], strict=True)] for name in few}
    assert {name: found for name, found in grown.items() if any(found)} == {}
    scripts = {file.stem for file in LUA.glob("*.lua")}
    assert scripts - set(few) == {"audit_reservations"}, "a repair, and nothing is broken"


def test_a_script_that_reads_the_whole_of_a_key_is_known_to_read_little() -> None:
    whole = {
        file.relative_to(LUA).with_suffix("").as_posix()
        for file in LUA.rglob("*.lua")
        if WHOLE.search(file.read_text(encoding="utf-8"))
    }
    assert whole == set(BOUNDED)
