"""How many clips a second an installation carries, from what one clip costs in each part; up to 1,000 GPUs.

Every part has a bound: the engines their service time, each process with one event loop and each Redis with one
command thread the inverse of a clip's CPU seconds, a machine its cores. The lowest bound is the rate, and its part is
the one to widen. The constants are those of `benchmarks.queue_throughput`; nothing else is fitted.

    python -m benchmarks.scaling_model [--from benchmarks/results/queue_throughput.json] [--gpu-clips-per-s N]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("scaling.json")
# A process is planned for this share of its time, else its queue grows without bound.
USABLE = 0.7
GPUS = (1, 2, 4, 8, 16, 64, 256, 1000)
# What one GPU answers is an assumption, and an argument. 39 GFLOPs a clip at 20 TFLOP/s reached give about 500.
GPU_CLIPS_PER_S = 500.0
NETWORK_BYTES_PER_S = 25e9 / 8


@dataclass(frozen=True)
class Constants:
    """What one clip costs; CPU seconds unless the name says more."""

    clip_bytes: int
    batch: int
    api_s: float
    """to enqueue it and to take its result up, without HTTP and decoding"""
    worker_s: float
    redis_s: float
    redis_disk_s: float
    """the same where Redis keeps an append-only file"""
    cycle_s: float
    """wall-clock seconds of a batch beyond the backend's own: fetch, write back"""


@dataclass(frozen=True)
class Bound:
    """The most that a part carries, in clips per second."""

    part: str
    per_s: float


def bounds(constants: Constants, workers: int, service_s: float, cores: int) -> list[Bound]:
    """Of `workers` on one machine of `cores`, with one process that enqueues; the lowest first."""
    of_all = constants.api_s + constants.worker_s + constants.redis_s
    found = [
        Bound("engines", workers * constants.batch / (service_s + constants.cycle_s)),
        Bound("api", 1 / constants.api_s),
        Bound("workers", workers / constants.worker_s),
        Bound("redis", 1 / constants.redis_s),
        Bound("cores", cores / of_all),
    ]
    return sorted(found, key=lambda bound: bound.per_s)


def predicted(constants: Constants, workers: int, service_s: float, cores: int) -> float:
    """Clips per second."""
    return bounds(constants, workers, service_s, cores)[0].per_s


@dataclass(frozen=True)
class Plan:
    """What a fleet needs to keep its GPUs busy."""

    gpus: int
    clips_per_s: float
    api_cores: int
    """to enqueue and take up results; decoding comes on top"""
    workers: int
    redis: int
    """servers among which clips are spread, kept in memory"""
    redis_bytes_per_s: float
    """in and out, over all of them"""


def planned(constants: Constants, gpus: int, gpu_clips_per_s: float) -> Plan:
    """Rounded up, with every process used to `USABLE`, one worker for each GPU at least."""
    rate = gpus * gpu_clips_per_s
    traffic = 2 * constants.clip_bytes * rate
    by_time = rate * constants.redis_s / USABLE
    by_network = traffic / 2 / (NETWORK_BYTES_PER_S * USABLE)  # a link carries both ways at once
    return Plan(
        gpus=gpus,
        clips_per_s=rate,
        api_cores=math.ceil(rate * constants.api_s / USABLE),
        workers=max(gpus, math.ceil(rate * constants.worker_s / USABLE)),
        redis=math.ceil(max(by_time, by_network)),
        redis_bytes_per_s=traffic,
    )


def first_limit(constants: Constants, gpu_clips_per_s: float) -> tuple[str, float]:
    """Of one Redis, one enqueuing process, and a worker for each GPU: which fills up first, and at how many clips/s."""
    parts = {"redis": USABLE / constants.redis_s, "api": USABLE / constants.api_s}
    worker = USABLE / constants.worker_s
    if worker < gpu_clips_per_s:
        parts["worker"] = worker
    return min(parts.items(), key=lambda part: part[1])


def taken(record: dict[str, Any]) -> dict[str, Any]:
    """Constants and measurements from a record of `benchmarks.queue_throughput` with the parts `path` and `workers`."""
    figures = record["figures"]
    memory, disk, rows = figures["path, in memory"], figures["path, kept on disk"], figures["workers"]
    cost = {part: ms / 1000 for part, ms in memory["cpu_ms_per_clip"].items()}
    one = rows[0]
    batch = round(one["backend_bound_per_s"] * one["service_s"])
    constants = Constants(
        clip_bytes=memory["clip_bytes"],
        batch=batch,
        api_s=cost["own"],
        worker_s=cost["worker"],
        redis_s=cost["redis"],
        redis_disk_s=disk["cpu_ms_per_clip"]["redis"] / 1000,
        cycle_s=max(0.0, batch / one["clips_per_s"] - one["service_s"]),
    )
    measured = [{key: row[key] for key in ("workers", "service_s", "clips_per_s")} for row in rows]
    kept = {key: record[key] for key in ("at", "commit", "machine", "versions")}
    return {**kept, "constants": asdict(constants), "measured": measured}


def load(path: Path = RECORDED) -> tuple[Constants, list[dict[str, float]], int]:
    """The recorded constants, the measurements beside them, and the cores of the machine."""
    data = json.loads(path.read_text())
    return Constants(**data["constants"]), data["measured"], data["machine"]["cores"]


def table(plans: Sequence[Plan]) -> str:
    """As Markdown."""
    head = "| GPUs | clips/s | API cores | workers | Redis servers | GB/s through Redis |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {p.gpus:,} | {p.clips_per_s:,.0f} | {p.api_cores:,} | {p.workers:,} | {p.redis:,} | "
        f"{p.redis_bytes_per_s / 1e9:,.1f} |\n"
        for p in plans
    )


def main() -> None:
    """Print the model's answers; with `--from` take constants and measurements from a new record first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, help="record of benchmarks.queue_throughput to take over")
    parser.add_argument("--gpu-clips-per-s", type=float, default=GPU_CLIPS_PER_S)
    arguments = parser.parse_args()
    if arguments.source:
        RECORDED.write_text(json.dumps(taken(json.loads(arguments.source.read_text())), indent=2) + "\n")
    if not RECORDED.exists():
        parser.error("nothing is recorded yet: run benchmarks.queue_throughput --workers 8, then this with --from")
    constants, measured, cores = load()
    print(json.dumps(asdict(constants), indent=2))
    for row in measured:
        workers, service_s = int(row["workers"]), row["service_s"]
        lowest = bounds(constants, workers, service_s, cores)[0]
        print(
            f"{workers} workers of {service_s} s: measured {row['clips_per_s']:.1f} clips/s, "
            f"predicted {lowest.per_s:.1f} ({lowest.part})"
        )
    part, rate = first_limit(constants, arguments.gpu_clips_per_s)
    print(f"with GPUs of {arguments.gpu_clips_per_s:g} clips/s, {part} fills up first, at {rate:.0f} clips/s")
    print(table([planned(constants, gpus, arguments.gpu_clips_per_s) for gpus in GPUS]))


if __name__ == "__main__":
    main()
