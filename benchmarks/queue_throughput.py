"""Queue and worker against a backend of fixed service time: what the way enqueue, batch, result costs by itself.

- path: clips/s through the queue with a backend that takes no time, over those that two plain redis-py + hiredis
  processes reach which do nothing but SET and GET the same bytes over the same socket, in the same server.
- workers: clips/s of 1, 2, … worker processes while the backend is the bottleneck, and mean batch size at saturation.
- alone: with one client, how much longer a clip takes than all stages together; that is what it waits for nothing.
- memory: of the worker and of Redis over many clips.

    python -m benchmarks.queue_throughput [--parts path,workers,alone,memory] [--seconds S] [--rounds N] [--workers N]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis
import uvloop

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.enqueue import Broker, broker
from benchmarks.common.fixed import command, fixed_spec

FRAMES, PIXELS, BATCH = 8, 224, 8  # 1.2 MB a clip
IN_FLIGHT = 4 * BATCH
RING = 64  # different clips, and keys of the plain processes
SHORT_SERVICE_S = 0.02
MEMORY_SAMPLES = 40
READ_SIZE = 1 << 20


def plain(kind: str, url: str, count: int, size: int) -> tuple[float, float]:
    """Seconds of wall clock and of CPU for `count` SETs or GETs; runs in a process of its own."""
    client = redis.Redis.from_url(url, socket_read_size=READ_SIZE)
    payload = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8).tobytes()
    keys = [f"plain:{number}" for number in range(RING)]
    if kind == "set":
        for key in keys:
            client.set(key, payload, ex=900)
    client.ping()
    # Both are to begin at the same moment.
    client.incr("plain:ready")
    while int(client.get("plain:ready") or 0) < 2:
        time.sleep(0.001)
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        if kind == "set":
            client.set(keys[number % RING], payload, ex=900)
        else:
            client.get(keys[number % RING])
    return time.perf_counter() - began, time.process_time() - cpu


@dataclass(frozen=True)
class Rate:
    """Clips per second, and CPU seconds of a clip by part."""

    per_s: float
    cpu_s: dict[str, float]


async def plain_rate(pools: list[ProcessPoolExecutor], queue: Broker, count: int) -> Rate:
    """Of the two plain processes."""
    meter = Meter({"redis": queue.parts["redis"]})
    await queue.queue.redis.delete("plain:ready")
    loop = asyncio.get_running_loop()
    runs = [
        loop.run_in_executor(pool, plain, kind, queue.redis.url, count, queue.spec.clip_bytes)
        for pool, kind in zip(pools, ("set", "get"), strict=True)
    ]
    while int(await queue.queue.redis.get("plain:ready") or 0) < len(pools):  # noqa: ASYNC110 - other processes' doing
        await asyncio.sleep(0.002)
    meter.mark()
    found = await asyncio.gather(*runs)
    meter.mark()
    await queue.queue.redis.delete(*(f"plain:{number}" for number in range(RING)))
    cpu = {"redis": meter.usage().cpu_s["redis"], "processes": sum(cpu for _, cpu in found)}
    return Rate(count / max(seconds for seconds, _ in found), {part: used / count for part, used in cpu.items()})


async def path(scratch: Path, seconds: float, rounds: int, persist: bool) -> dict[str, Any]:
    """The queue against plain SET and GET."""
    spec = fixed_spec(BATCH, FRAMES, PIXELS)
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, context) for _ in range(2)]
    try:
        async with broker(scratch, command(0.0, spec), persist=persist) as queue:
            clips = queue.clips(RING)
            meter = Meter(queue.parts)

            async def ours(count: int) -> float:
                return await queue.queue.round(queue.spec, clips, count, IN_FLIGHT)

            await plain_rate(pools, queue, RING)
            count = max(RING, int(seconds * await ours(2 * RING)))

            async def metered() -> Rate:
                meter.mark()
                rate = await ours(count)
                meter.mark()
                return Rate(rate, {part: used / count for part, used in meter.usage().cpu_s.items()})

            series = await record.interleaved(
                rounds, {"plain": lambda: plain_rate(pools, queue, count), "ours": metered}
            )
            total, batches = await batched(queue)
    finally:
        for pool in pools:
            pool.shutdown()
    rates = {way: [one.per_s for one in found] for way, found in series.items()}
    cpu = {way: [sum(one.cpu_s.values()) for one in found] for way, found in series.items()}
    return {
        "persist": persist,
        "clip_bytes": spec.clip_bytes,
        "clips_per_round": count,
        "clips_per_s": rates,
        "ratio": record.median_of_ratios(rates["ours"], rates["plain"]),
        "cpu_ratio": record.median_of_ratios(cpu["plain"], cpu["ours"]),
        "mean_batch": total / batches,
        "cpu_ms_per_clip": {
            part: round(1000 * statistics.median(one.cpu_s[part] for one in series["ours"]), 3)
            for part in series["ours"][0].cpu_s
        },
    }


async def batched(queue: Broker) -> tuple[float, float]:
    """Clips and batches that the workers have scored so far."""
    return await queue.metric("vidtr_batch_clips_sum"), await queue.metric("vidtr_batch_clips_count")


async def saturated(scratch: Path, workers: int, service_s: float, seconds: float) -> dict[str, float]:
    """Clips per second and mean batch size of some workers that always have enough to do."""
    spec = fixed_spec(BATCH, FRAMES, PIXELS)
    async with broker(scratch, command(service_s, spec), workers) as queue:
        clips = queue.clips(RING)
        bound = workers * BATCH / service_s
        count = max(4 * workers * BATCH, int(seconds * bound))
        in_flight = IN_FLIGHT * workers
        meter = Meter(queue.parts)
        await queue.queue.round(queue.spec, clips, 2 * BATCH * workers, in_flight)
        before = await batched(queue)
        meter.mark()
        rate = await queue.queue.round(queue.spec, clips, count, in_flight)
        meter.mark()
        total, batches = (now - was for now, was in zip(await batched(queue), before, strict=True))
    usage = meter.usage()
    return {
        "workers": workers,
        "service_s": service_s,
        "clips_per_s": rate,
        "backend_bound_per_s": bound,
        "mean_batch": total / batches,
        **{f"{part}_cpu_ms_per_clip": 1000 * cpu / count for part, cpu in usage.cpu_s.items()},
    }


async def workers(scratch: Path, seconds: float, rounds: int, most: int, service_s: float) -> list[dict[str, float]]:
    """Medians of 1 to `most` workers, in interleaved rounds."""
    found = await record.interleaved(
        rounds,
        {
            str(number): partial(saturated, scratch / str(number), number, service_s, seconds)
            for number in range(1, most + 1)
        },
    )
    return [
        {key: statistics.median(single[key] for single in singles) for key in singles[0]} for singles in found.values()
    ]


async def alone(scratch: Path, clips: int) -> dict[str, float]:
    """One clip at a time: the median of its whole time, and the sum of its stages. Milliseconds."""
    spec = fixed_spec(BATCH, FRAMES, PIXELS)
    stages = ("batch", "inference", "completion")
    async with broker(scratch, command(SHORT_SERVICE_S, spec)) as queue:
        views = [memoryview(clip).cast("B") for clip in queue.clips(RING)]
        for view in views[:8]:
            await queue.queue.classify(queue.spec, view)

        async def of_workers() -> dict[str, tuple[float, float]]:
            names = {stage: f'vidtr_stage_seconds_%s{{stage="{stage}"}}' for stage in stages}
            return {
                stage: (await queue.metric(name % "sum"), await queue.metric(name % "count"))
                for stage, name in names.items()
            }

        before = await of_workers()
        timed = [await queue.queue.classify(queue.spec, views[number % RING]) for number in range(clips)]
        after = await of_workers()
    means = {
        f"{stage}_ms": 1000 * (after[stage][0] - before[stage][0]) / max(1.0, after[stage][1] - before[stage][1])
        for stage in stages
    }
    means["enqueue_ms"] = 1000 * statistics.median(one.enqueue_s for one in timed)
    total = 1000 * statistics.median(one.total_s for one in timed)
    return {"total_p50_ms": total, "stages_ms": sum(means.values()), **means, "waiting_ms": total - sum(means.values())}


async def memory(scratch: Path, count: int) -> dict[str, Any]:
    """Resident bytes of the worker and bytes in use of Redis while `count` clips go through."""
    spec = fixed_spec(BATCH, FRAMES, PIXELS)
    samples: dict[str, list[int]] = {"worker": [], "redis": []}
    async with broker(scratch, command(0.0, spec), result_ttl_s=5, tombstone_ttl_s=5, webhook_give_up_s=5) as queue:
        process = psutil.Process(queue.parts["worker"][0])
        asking: set[asyncio.Task[None]] = set()

        async def sample() -> None:
            info = await queue.queue.redis.info("memory")
            samples["redis"].append(int(info["used_memory"]))
            samples["worker"].append(process.memory_info().rss)

        def each(done: int) -> None:
            if done % max(1, count // MEMORY_SAMPLES) == 0:
                task = asyncio.create_task(sample())
                asking.add(task)
                task.add_done_callback(asking.discard)

        rate = await queue.queue.round(queue.spec, queue.clips(RING), count, IN_FLIGHT, each)
        await asyncio.gather(*asking)
    return {
        "clips": count,
        "clips_per_s": rate,
        "bytes": samples,
        "growth": {part: growth(values) for part, values in samples.items()},
    }


def growth(values: list[int]) -> float:
    """Median of the last quarter over that of the second: the first is the start."""
    quarter = len(values) // 4
    return statistics.median(values[-quarter:]) / statistics.median(values[quarter : 2 * quarter])


async def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """The parts that were asked for: figures and ratios."""
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    parts = arguments.parts.split(",")
    record.RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="queue-", dir=record.RESULTS) as name:
        scratch = Path(name)
        if "path" in parts:
            for persist in (False, True):
                found = await path(scratch / f"path{persist}", arguments.seconds, arguments.rounds, persist)
                kind = "kept on disk" if persist else "in memory"
                figures[f"path, {kind}"] = found
                ratios[f"queue over plain SET and GET, {kind}"] = found["ratio"]
                ratios[f"CPU of plain SET and GET over CPU of the queue, {kind}"] = found["cpu_ratio"]
        if "workers" in parts:
            scaled = await workers(
                scratch / "workers", arguments.seconds, arguments.rounds, arguments.workers, arguments.service_s
            )
            figures["workers"] = scaled
            ratios["mean batch over maximum at saturation"] = scaled[0]["mean_batch"] / BATCH
            if len(scaled) > 1:
                ratios["two workers over one"] = scaled[1]["clips_per_s"] / scaled[0]["clips_per_s"]
        if "alone" in parts:
            figures["alone"] = await alone(scratch / "alone", arguments.alone_clips)
        if "memory" in parts:
            figures["memory"] = await memory(scratch / "memory", arguments.clips)
            for part, value in figures["memory"]["growth"].items():
                ratios[f"memory of {part} at first over at last"] = 1 / value
    return figures, ratios


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="path,workers,alone,memory")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="most worker processes")
    parser.add_argument("--service-s", type=float, default=0.25, help="of a batch where it is to limit")
    parser.add_argument("--alone-clips", type=int, default=200)
    parser.add_argument("--clips", type=int, default=20_000, help="of the memory measurement")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures, ratios = runner.run(run(arguments))
    record.write("queue_throughput", figures, began=began, ratios=ratios, path=arguments.json)
    for name, ratio in ratios.items():
        print(f"{name:50} {ratio:.3f}")
    if "alone" in figures:
        one = figures["alone"]
        print(f"one client: p50 {one['total_p50_ms']:.2f} ms, its stages {one['stages_ms']:.2f} ms")


if __name__ == "__main__":
    main()
