"""What each step costs Redis beside 10, 100, 1,000 and 10,000 workers, API processes, uploads and jobs.

They are made up: announcements, consumers with a clip each, subscriptions, reservations, jobs and webhooks. Each crowd
has a real Redis of its own, and each round takes every step beside each crowd in turn: what the machine does meanwhile
slows all crowds alike. The figure is the median of the time that Redis spends in its scripts, by its own statistics;
the ratio is that of the largest crowd to the smallest.

Of an XADD beside idle workers the figure is the CPU time of Redis, with all of them at the stream and with the few that
the service lets wait there.

    python -m benchmarks.control_plane [--sizes 10 100 1000 10000] [--idle 1 40 400] [--rounds 30] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from benchmarks.common import idle_readers
from benchmarks.common.crowd import Crowd, Steps
from benchmarks.common.record import machine, write
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.redis_keys import RedisKeys

SIZES = (10, 100, 1000, 10_000)
IDLE = (1, 40, 400)


async def script_us(redis: Redis) -> float:
    """Microseconds that Redis has spent in scripts."""
    found: Any = await redis.info("commandstats")
    return float(found.get("cmdstat_evalsha", {}).get("usec", 0))


@contextlib.asynccontextmanager
async def beside(size: int) -> AsyncIterator[tuple[Redis, Steps]]:
    """A Redis with a crowd of `size` in it, and the steps to take there."""
    with tempfile.TemporaryDirectory() as folder, LocalRedis(Path(folder), persist=False) as server:
        redis, keys = connect(server.url, name="control-plane"), RedisKeys("crowd")
        crowd = Crowd(redis, keys)
        await crowd.grow(size)
        try:
            yield redis, Steps(redis, keys)
        finally:
            await crowd.close()
            await redis.aclose()


async def measure(sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of each step, by the size of the crowd."""
    taken: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with contextlib.AsyncExitStack() as stack:
        crowds = {size: await stack.enter_async_context(beside(size)) for size in sizes}
        for _ in range(rounds):
            for size, (redis, steps) in crowds.items():

                async def timed(name: str, step: Awaitable[Any], redis: Redis = redis, size: int = size) -> Any:
                    before = await script_us(redis)
                    reply = await step
                    taken[name][str(size)].append(await script_us(redis) - before)
                    return reply

                await steps.once(timed)
    return {name: {size: statistics.median(all_us) for size, all_us in by.items()} for name, by in taken.items()}


async def measure_idle(sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of Redis' CPU for an XADD, by who waits at the stream and the number of idle workers."""
    with tempfile.TemporaryDirectory() as folder, LocalRedis(Path(folder), persist=False) as server:
        return await idle_readers.measure(server.url, sizes, rounds)


def show(title: str, figures: dict[str, dict[str, float]], ratios: dict[str, float]) -> None:
    """Print a table."""
    print(f"{title:24}" + "".join(f"{size:>10}" for size in next(iter(figures.values()), ())) + f"{'ratio':>8}")
    for name, by_size in figures.items():
        print(f"{name:24}" + "".join(f"{value:10.0f}" for value in by_size.values()) + f"{ratios[name]:8.2f}")


def main() -> None:
    """The command line. Prints a table, and writes the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--idle", type=int, nargs="+", default=IDLE)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/control_plane.json"))
    arguments = parser.parse_args()
    began = machine()
    figures = asyncio.run(measure(arguments.sizes, arguments.rounds))
    idle = asyncio.run(measure_idle(arguments.idle, arguments.rounds))
    first, last = str(arguments.sizes[0]), str(arguments.sizes[-1])
    of_first = {name: by_size[last] / by_size[first] for name, by_size in figures.items()}
    show("step", figures, of_first)
    few, many = str(arguments.idle[0]), str(arguments.idle[-1])
    of_few = {name: by_size[many] / by_size[few] for name, by_size in idle.items()}
    show("idle workers", idle, of_few)
    write("control_plane", figures | idle, began=began, ratios=of_first | of_few, path=arguments.json)


if __name__ == "__main__":
    main()
