"""How many clips a second an installation carries, from what one clip costs in each part; up to 1,000 GPUs.

Every part has a bound: the engines their service time, each process with one event loop and each Redis with one
command thread the inverse of a clip's CPU seconds, a machine its cores. The lowest bound is the rate, and its part is
the one to widen. The constants are those of `benchmarks.queue_throughput`, `benchmarks.triton_transport` and
`benchmarks.decode_cost`; nothing else is fitted. A GPU's rate is an assumption: no GPU was at hand.

    python -m benchmarks.scaling_model [--from benchmarks/results/queue_throughput.json]
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import decode_cost

RECORDED = Path(__file__).with_name("scaling.json")
# A process is planned for this share of its time, else its queue grows without bound.
USABLE = 0.7
NETWORK_BYTES_PER_S = 25e9 / 8
# One inference of C-VidTr-S, as `vidtr models show cvidtr_s_8x8` counts it.
CLIP_FLOPS = 124.1e9
# gRPC to Triton, a batch of 8, as `benchmarks.triton_transport` measured it (docs/benchmarks.md).
TRANSPORT_S = 0.0249
# The most partitions that a queue may have, two of them on each primary, so that one can be added to the cluster.
MOST_PARTITIONS = 256
CLUSTER_PRIMARIES = MOST_PARTITIONS // 2
GPU_HOST_CORES = (16, 32, 64, 128)


@dataclass(frozen=True)
class Gpu:
    """What one GPU is assumed to do: the peak of its data sheet, dense, and the share of it that is reached."""

    name: str
    peak_flops: float
    share: float

    @property
    def clips_per_s(self) -> float:
        return self.peak_flops * self.share / CLIP_FLOPS


# Peaks of NVIDIA's data sheet for the H100 SXM; the shares are guesses.
ASSUMED = (
    Gpu("FP32 without TF32, TorchScript", 67e12, 0.55),
    Gpu("bf16, TorchScript", 989e12, 0.15),
    Gpu("bf16, TorchScript, batches of 32", 989e12, 0.25),
    Gpu("bf16, compiled, batches of 32", 989e12, 0.4),
)
PLANNED = ASSUMED[2]
GPUS = (1, 4, 16, 64, 256, 1000)
IN_FLIGHT = 4


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


def worker_per_s(constants: Constants, gpu_clips_per_s: float, in_flight: int = 1) -> float:
    """Clips per second of one worker before a Triton of this rate, with so many batches in flight."""
    batch_s = constants.batch / gpu_clips_per_s + constants.cycle_s + TRANSPORT_S
    return min(in_flight * constants.batch / batch_s, USABLE / constants.worker_s)


def redis_per_s(constants: Constants, *, kept: bool) -> float:
    """Clips per second of one Redis, whose payloads are kept in its append-only file or are not."""
    by_time = USABLE / (constants.redis_disk_s if kept else constants.redis_s)
    return min(by_time, USABLE * NETWORK_BYTES_PER_S / constants.clip_bytes)  # a link carries both ways at once


def partitioned(constants: Constants, partitions: int, primaries: int, *, kept: bool) -> float:
    """Clips per second of a cluster. All partitions get as much, so the primary that has most of them is full first."""
    return redis_per_s(constants, kept=kept) * partitions / math.ceil(partitions / primaries)


@dataclass(frozen=True)
class Plan:
    """What a fleet needs to keep its GPUs busy."""

    gpus: int
    clips_per_s: float
    api_cores: int
    """to enqueue and take up results; decoding comes on top"""
    workers: int
    """with one batch in flight each"""
    workers_overlapped: int
    """with `IN_FLIGHT` of them"""
    redis: int
    """primaries among which clips are spread, kept in memory"""
    redis_kept: int
    """the same with an append-only file"""
    redis_bytes_per_s: float
    """in and out, over all of them"""

    @property
    def installations(self) -> int:
        """Clusters of `CLUSTER_PRIMARIES` with an append-only file, each behind a name of its own."""
        return math.ceil(self.redis_kept / CLUSTER_PRIMARIES)


def planned(constants: Constants, gpus: int, gpu_clips_per_s: float) -> Plan:
    """Rounded up, with every process used to `USABLE`, one worker for each GPU at least."""
    rate = gpus * gpu_clips_per_s

    def workers(in_flight: int) -> int:
        return max(gpus, math.ceil(rate / worker_per_s(constants, gpu_clips_per_s, in_flight)))

    return Plan(
        gpus=gpus,
        clips_per_s=rate,
        api_cores=math.ceil(rate * constants.api_s / USABLE),
        workers=workers(1),
        workers_overlapped=workers(IN_FLIGHT),
        redis=math.ceil(rate / redis_per_s(constants, kept=False)),
        redis_kept=math.ceil(rate / redis_per_s(constants, kept=True)),
        redis_bytes_per_s=2 * constants.clip_bytes * rate,
    )


def first_limit(constants: Constants, gpu_clips_per_s: float, *, kept: bool = False) -> tuple[str, float]:
    """Of one Redis, one enqueuing process, and a worker for each GPU: which fills up first, and at how many clips/s."""
    parts = {"redis": redis_per_s(constants, kept=kept), "api": USABLE / constants.api_s}
    worker = worker_per_s(constants, gpu_clips_per_s)
    if worker < gpu_clips_per_s:
        parts["worker"] = worker
    return min(parts.items(), key=lambda part: part[1])


def decode_cores(cpu_s: float, clips_per_s: float) -> int:
    """Cores that decode so many clips a second, used to `USABLE`."""
    return math.ceil(clips_per_s * cpu_s / USABLE)


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


def decoding(path: Path = decode_cost.RECORDED) -> list[dict[str, Any]]:
    """The recorded CPU seconds of decoding a clip, by video and clips of it."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["decode"]
    return rows


def load(path: Path = RECORDED) -> tuple[Constants, list[dict[str, float]], int]:
    """The recorded constants, the measurements beside them, and the cores of the machine."""
    data = json.loads(path.read_text())
    return Constants(**data["constants"]), data["measured"], data["machine"]["cores"]


def main() -> None:
    """Print the model's answers; with `--from` take constants and measurements from a new record first."""
    from benchmarks.scaling_tables import tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, help="record of benchmarks.queue_throughput to take over")
    arguments = parser.parse_args()
    if arguments.source:
        RECORDED.write_text(json.dumps(taken(json.loads(arguments.source.read_text())), indent=2) + "\n")
    if not RECORDED.exists():
        parser.error("nothing is recorded yet: run benchmarks.queue_throughput --workers 8, then this with --from")
    for name, table in tables().items():
        print(f"{name}\n\n{table}")


if __name__ == "__main__":
    main()
