"""What each step costs Redis beside 10, 100, 1,000 and 10,000 workers, API processes, uploads and jobs.

They are made up, in a real Redis: announcements, consumers with a clip each, subscriptions, reservations, jobs and
webhooks. Each step is taken `--rounds` times beside them; the figure is the median of the time that Redis spends in its
scripts, by its own statistics. The ratio is that of the largest crowd to the smallest, divided by that of
`record_fault`, which touches one job and nothing else: what the machine does meanwhile slows all steps alike.

Of an XADD beside idle workers the figure is the CPU time of Redis, with all of them at the stream and with the few that
the service lets wait there.

    python -m benchmarks.control_plane [--sizes 10 100 1000 10000] [--idle 1 40 400] [--rounds 30] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from benchmarks.common import idle_readers
from benchmarks.common.crowd import Crowd, Steps
from benchmarks.common.record import machine, write
from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.redis_keys import RedisKeys

BASELINE = "record_fault"
SIZES = (10, 100, 1000, 10_000)
IDLE = (1, 40, 400)


async def script_us(redis: Redis) -> float:
    """Microseconds that Redis has spent in scripts."""
    found: Any = await redis.info("commandstats")
    return float(found.get("cmdstat_evalsha", {}).get("usec", 0))


async def measure(sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of each step, by the size of the crowd."""
    figures: dict[str, dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder, LocalRedis(Path(folder), persist=False) as server:
        redis, keys = connect(server.url, name="control-plane"), RedisKeys("crowd")
        crowd, steps = Crowd(redis, keys), Steps(redis, keys)
        for size in sizes:
            await crowd.grow(size)
            taken: defaultdict[str, list[float]] = defaultdict(list)

            async def timed(name: str, step: Awaitable[Any], taken: dict[str, list[float]] = taken) -> Any:
                before = await script_us(redis)
                reply = await step
                taken[name].append(await script_us(redis) - before)
                return reply

            for _ in range(rounds):
                await steps.once(timed)
            for name, values in taken.items():
                figures[name][str(size)] = statistics.median(values)
        await crowd.close()
        await redis.aclose()
    return figures


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
    drift = figures[BASELINE][last] / figures[BASELINE][first]
    of_first = {name: by_size[last] / by_size[first] / drift for name, by_size in figures.items()}
    show("step", figures, of_first)
    few, many = str(arguments.idle[0]), str(arguments.idle[-1])
    of_few = {name: by_size[many] / by_size[few] for name, by_size in idle.items()}
    show("idle workers", idle, of_few)
    write("control_plane", figures | idle, began=began, ratios=of_first | of_few, path=arguments.json)


if __name__ == "__main__":
    main()
