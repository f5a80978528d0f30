"""The service at three times its capacity: what is answered, refused, and how fast.

Real API and worker processes over a real Redis with a memory budget, with a backend of fixed service time and with the
committed model. The capacity is measured in the same run, by a closed loop.

    python -m benchmarks.overload [--stacks fixed,real] [--seconds 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

from benchmarks.e2e_stub_engine import BATCH, DEADLINE_S, MEMORY_BYTES, Answer, Stack, classify, percentile, running

TIMES = 3
CAPACITY_S = 20.0
SETTLE_S = 5.0


async def capacity(stack: Stack, seconds: float) -> float:
    """Answers per second of a closed loop that keeps two batches waiting."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SETTLE_S + seconds
    done: list[float] = []

    async def client() -> None:
        while loop.time() < end:
            if (await classify(stack)).status == 200:
                done.append(loop.time())

    await asyncio.gather(*(client() for _ in range(3 * BATCH)))
    return sum(end - seconds <= at < end for at in done) / seconds


async def overload(stack: Stack, rate: float, seconds: float) -> tuple[list[Answer], int]:
    """An open loop at `rate` requests per second; all answers, and the most memory that Redis used meanwhile."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            memory = await stack.redis.info("memory")
            most = max(most, int(memory["used_memory"]))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    requests = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        requests.append(asyncio.create_task(classify(stack)))
    answers = list(await asyncio.gather(*requests))
    watching.cancel()
    return answers, most


async def measure(kind: str, seconds: float) -> dict[str, object]:
    """All figures of one stack."""
    async with running(kind) as stack:
        peak = await capacity(stack, CAPACITY_S)
        began = asyncio.get_running_loop().time()
        answers, memory = await overload(stack, TIMES * peak, seconds)
        good = [a for a in answers if a.status == 200 and a.total_s <= DEADLINE_S]
        # The queue fills first; what is answered after the last request was sent is not of this load.
        counted = [a for a in good if SETTLE_S <= a.started + a.total_s - began < seconds]
        goodput = len(counted) / (seconds - SETTLE_S)
        refused = [a for a in answers if a.status == 503]
        waits = [a.retry_after_s for a in refused if a.retry_after_s is not None]
        return {
            "capacity_per_s": round(peak, 2),
            "offered_per_s": round(TIMES * peak, 2),
            "goodput_per_s": round(goodput, 2),
            "goodput_of_capacity": round(goodput / peak, 3),
            "answered": len(good),
            "refused": len(refused),
            "refused_p50_ms": round(1000 * percentile([a.first_s for a in refused], 50), 1),
            "refused_p99_ms": round(1000 * percentile([a.first_s for a in refused], 99), 1),
            "retry_after_s": [min(waits), statistics.median(waits), max(waits)] if waits else [],
            "answer_p99_s": round(percentile([a.total_s for a in good], 99), 2),
            "past_their_deadline": sum(
                a.status == 504 or (a.status == 200 and a.total_s > DEADLINE_S) for a in answers
            ),
            "other_statuses": sorted({a.status for a in answers} - {200, 503, 504}),
            "redis_memory_most": memory,
            "redis_memory_budget": MEMORY_BYTES,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", default="fixed,real")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/overload.json"))
    arguments = parser.parse_args()
    found = {kind: asyncio.run(measure(kind, arguments.seconds)) for kind in arguments.stacks.split(",")}
    for name in next(iter(found.values())):
        print(f"{name:24}" + "".join(f"{figures.get(name, '')!s:>48}" for figures in found.values()))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"at": time.time(), **found}, indent=2))


if __name__ == "__main__":
    main()
