"""The tables of docs/scaling.md. `python -m benchmarks.scaling_model` prints them, and a test compares them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.scaling_model import (
    ASSUMED,
    GPU_HOST_CORES,
    GPUS,
    IN_FLIGHT,
    PLANNED,
    USABLE,
    Constants,
    decode_cores,
    decoding,
    load,
    partitioned,
    planned,
    predicted,
    redis_per_s,
    worker_per_s,
)

MIB = 1024**2
# Partitions and primaries of a cluster.
SPLITS = ((1, 1), (3, 3), (4, 3), (12, 3), (12, 4), (12, 6), (60, 30))
# How long a replica may stand still before it has to be filled anew, and how long the queue and the file may grow.
REPLICA_S, QUEUE_S, REWRITE_S = 5.0, 10.0, 60.0
QUEUE_BYTES = 1024 * MIB


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return (
        "".join("| " + " | ".join(line) + " |\n" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")
    )


def _up_to(value: float) -> str:
    """With a comma between thousands; below 10 with one digit."""
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def costs(constants: Constants) -> str:
    """What one clip costs, and what one process of each kind then carries."""
    rows = [
        ("API process, without HTTP and decoding", constants.api_s),
        ("worker", constants.worker_s),
        ("Redis, in memory", constants.redis_s),
        ("Redis, with an append-only file", constants.redis_disk_s),
    ]
    return _markdown(
        ("part", "CPU a clip", "clips/s of one"),
        [(part, f"{1000 * cost:.2f} ms", f"{USABLE / cost:,.0f}") for part, cost in rows],
    )


def agreement(constants: Constants, measured: Sequence[dict[str, float]], cores: int) -> str:
    """Measured rates beside those of the model."""
    rows = [
        (int(row["workers"]), row["clips_per_s"], predicted(constants, int(row["workers"]), row["service_s"], cores))
        for row in measured
    ]
    return _markdown(("workers", "clips/s", "predicted"), [(str(n), f"{a:.1f}", f"{b:.1f}") for n, a, b in rows])


def gpus() -> str:
    """What one H100 is assumed to answer, and how many workers it keeps busy."""
    constants, _, _ = load()
    return _markdown(
        ("one H100", "peak reached", "clips/s", "workers, one batch in flight", f"workers, {IN_FLIGHT} in flight"),
        [
            (
                gpu.name,
                f"{gpu.share:.0%} of {gpu.peak_flops / 1e12:,.0f} TFLOP/s".replace("%", " %"),
                f"{gpu.clips_per_s:,.0f}",
                *(
                    str(math.ceil(gpu.clips_per_s / worker_per_s(constants, gpu.clips_per_s, flight)))
                    for flight in (1, IN_FLIGHT)
                ),
            )
            for gpu in ASSUMED
        ],
    )


def fleets(constants: Constants) -> str:
    """Up to 1,000 GPUs."""
    head = ("GPUs", "clips/s", "API cores", f"workers, {IN_FLIGHT} in flight", "primaries in memory")
    plans = [planned(constants, count, PLANNED.clips_per_s) for count in GPUS]
    return _markdown(
        (*head, "primaries with the file", "GB/s through Redis", "installations"),
        [
            (
                f"{p.gpus:,}",
                f"{p.clips_per_s:,.0f}",
                f"{p.api_cores:,}",
                f"{p.workers_overlapped:,}",
                f"{p.redis:,}",
                f"{p.redis_kept:,}",
                _up_to(p.redis_bytes_per_s / 1e9),
                f"{p.installations:,}",
            )
            for p in plans
        ],
    )


def splits(constants: Constants) -> str:
    """What a cluster carries with so many partitions on so many primaries."""
    return _markdown(
        ("partitions", "primaries", "most on one", "clips/s in memory", "clips/s with the file"),
        [
            (
                str(partitions),
                str(primaries),
                str(math.ceil(partitions / primaries)),
                *(f"{partitioned(constants, partitions, primaries, kept=kept):,.0f}" for kept in (False, True)),
            )
            for partitions, primaries in SPLITS
        ],
    )


def servers(constants: Constants) -> str:
    """What one full Redis needs for its bytes: of its stream to replicas, of its file, and of its queue."""
    rows = []
    for name, kept in (("in memory", False), ("with the file", True)):
        rate = redis_per_s(constants, kept=kept)
        stream = rate * constants.clip_bytes
        rows.append(
            (
                name,
                f"{rate:,.0f}",
                f"{stream / 1e6:,.0f} MB/s",
                f"{stream * REPLICA_S / 1e9:,.1f} GB",
                f"{stream * REWRITE_S / 1e9:,.0f} GB" if kept else "-",
                f"{QUEUE_BYTES / stream:,.1f} s",
                f"{stream * QUEUE_S / 1e9:,.1f} GB",
            )
        )
    head = ("one Redis", "clips/s", "its stream", f"{REPLICA_S:g} s for a replica", f"{REWRITE_S:g} s of its file")
    return _markdown((*head, "1 GiB of queue lasts", f"{QUEUE_S:g} s of queue"), rows)


def decoders(constants: Constants) -> str:
    """Cores that decode for one GPU, and the share of it that a host's cores keep busy beside moving clips."""
    moving = constants.api_s + constants.worker_s + constants.redis_disk_s
    head = ("video", "clips a video", "CPU a clip", "cores for one H100")
    rows = []
    for row in decoding():
        rate = PLANNED.clips_per_s
        fed = (cores * USABLE / (row["cpu_s"] + moving) / rate for cores in GPU_HOST_CORES)
        cells = (row["video"], str(row["clips"]), f"{1000 * row['cpu_s']:.0f} ms")
        cores = f"{decode_cores(row['cpu_s'], rate):,}"
        rows.append((*cells, cores, *(f"{min(1.0, share):.0%}".replace("%", " %") for share in fed)))
    return _markdown((*head, *(f"{cores} cores feed" for cores in GPU_HOST_CORES)), rows)


def tables() -> dict[str, str]:
    """Every table by its chapter, as Markdown."""
    constants, measured, cores = load()
    return {
        "What a clip costs": costs(constants),
        "Measured": agreement(constants, measured, cores),
        "What a GPU answers": gpus(),
        "Up to 1,000 GPUs": fleets(constants),
        "Partitions": splits(constants),
        "One Redis": servers(constants),
        "Cores beside a GPU": decoders(constants),
    }
