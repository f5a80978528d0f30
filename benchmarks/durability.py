"""What it costs to have an accepted job on disk: the same acceptance against Redis with each `appendfsync`.

One job of ten clips is put into Redis as the API does it: its clips, then record and entries in one step. Rounds of the
three servers alternate; the ratio is that of the medians, to the server that keeps nothing.

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
from pathlib import Path

from service.local.redis import LocalRedis
from service.queue.connection import connect
from service.queue.jobs import JobStore, JobTimes
from service.queue.keys import Keys
from tests.factories import decoded, record, spec

CLIPS = 10
CLIP_BYTES = 8 * 112 * 112 * 3
TIMES = JobTimes(payload_ttl_s=60, result_ttl_s=60, tombstone_ttl_s=60, idempotency_ttl_s=60)


async def accept(store: JobStore) -> float:
    """Milliseconds that one job takes."""
    job = record(spec=spec(height=112, width=112, frames=8), decoded=decoded(windows=CLIPS))
    started = time.perf_counter()
    await store.put_payloads(job.id, memoryview(bytes(CLIPS * CLIP_BYTES)), CLIP_BYTES)
    await store.accept(job)
    taken_ms = 1000 * (time.perf_counter() - started)
    await store.cancel(job.id)
    return taken_ms


async def measure(jobs: int, rounds: int) -> dict[str, float]:
    """Median milliseconds by server."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="durability-", dir=Path.cwd()) as name, contextlib.ExitStack() as stack:
        servers = {
            "nothing kept": LocalRedis(Path(name) / "none", persist=False),
            "everysec": LocalRedis(Path(name) / "everysec", persist=True),
            "always": LocalRedis(Path(name) / "always", persist=True, appendfsync="always"),
        }
        stores = {
            kind: JobStore(connect(stack.enter_context(server).url, name="durability"), Keys("bench"), TIMES)
            for kind, server in servers.items()
        }
        for _ in range(rounds):
            for kind, store in stores.items():
                found.setdefault(kind, []).extend([await accept(store) for _ in range(jobs)])
    return {kind: statistics.median(values) for kind, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/durability.json"))
    arguments = parser.parse_args()
    medians = asyncio.run(measure(arguments.jobs, arguments.rounds))
    base = medians["nothing kept"]
    for kind, value in medians.items():
        print(f"{kind:14} {value:8.2f} ms a job of {CLIPS} clips, {value / base:5.2f} times the cost without a file")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main()
