"""Our forward against a straightforward one of the same weights, interleaved in one process, beside the floor.

The floor is the time that the needed multiplications would take at the best rate that a matrix product of the model's
own shapes reaches in the same run. Needed is what the outputs depend on: in the last layer only the class token's
query, row of attention, output projection and MLP, but keys and values of every token.

    python -m benchmarks.model [--models NAME …] [--batches N …] [--threads N …] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.straightforward import cvidtr, vidtr
from service.model.build import for_inference
from service.model.config import SequenceConfig, VidTrConfig
from service.model.presets import build_preset

SHAPES_REPEATED = 6


def straightforward(network: Any) -> Callable[[Tensor], Tensor]:
    """The plain forward over the network's own weights."""
    config, weights = network.config, network.state_dict()
    if isinstance(config, VidTrConfig):
        return lambda clips: vidtr(weights, clips, depth=config.depth, heads=config.heads)
    drops, alive = {}, config.frames
    for layer, keep in config.pooling:
        drops[layer] = alive - keep
        alive = keep
    return lambda clips: cvidtr(weights, clips, depth=config.depth, heads=config.heads, drops=drops)


def needed_flops(config: VidTrConfig | SequenceConfig) -> float:
    """FLOPs of one clip that the outputs depend on; the class token's bypass of C-VidTr is a constant and left out."""
    d, s, t = config.dim, config.locations, config.frames
    macs = t * s * d * 3 * config.patch**2 + d * config.classes
    for layer in range(config.depth):
        last = layer == config.depth - 1
        if isinstance(config, VidTrConfig):
            rows, columns = t + 1, s + 1
            tokens = rows * columns
            if last:
                macs += 2 * tokens * d**2 + columns * d**2 + 2 * columns * rows * d + 2 * columns * d + 9 * d**2
            else:
                macs += 12 * tokens * d**2 + 2 * columns * rows**2 * d + 2 * rows * columns**2 * d
        elif layer < config.separable_layers:
            u = config.kept_in(layer) or t
            macs += 3 * t * s * d**2 + 9 * u * s * d**2 + (t**2 + u * t) * s * d + 2 * u * s**2 * d
            t = u
        else:
            tokens = 1 + t * s
            macs += 2 * tokens * d**2 + 10 * d**2 + 2 * tokens * d if last else 12 * tokens * d**2 + 2 * tokens**2 * d
    return 2.0 * macs


def best_rate(config: VidTrConfig | SequenceConfig, batch: int) -> float:
    """FLOP/s of the fastest of the network's own matrix products."""
    rates = []
    tokens, d = batch * config.frames * config.locations, config.dim
    for rows in (tokens, tokens // 2):
        for width in (d, 3 * d, config.mlp_dim):
            x, weight = torch.randn(rows, d), torch.randn(width, d)
            for _ in range(SHAPES_REPEATED):
                started = time.perf_counter()
                F.linear(x, weight)
                rates.append(2.0 * rows * d * width / (time.perf_counter() - started))
    return max(rates)


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(name: str, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Alternate both forwards; every round also measures the matrix rate, so that the floor drifts with the machine."""
    torch.set_num_threads(threads)
    network = for_inference(build_preset(name))
    plain = straightforward(network)
    clips = torch.randn(batch, 3, network.config.frames, network.config.height, network.config.width)
    times: dict[str, list[float]] = {"ours": [], "straightforward": [], "floor": []}
    with torch.inference_mode():
        torch.testing.assert_close(network(clips).logits, plain(clips), atol=1e-4, rtol=0)
        for _ in range(rounds):
            times["floor"].append(batch * needed_flops(network.config) / best_rate(network.config, batch))
            times["straightforward"].append(seconds(lambda: plain(clips)))
            times["ours"].append(seconds(lambda: network(clips)))
    medians = {key: statistics.median(values) for key, values in times.items()}
    return {
        "model": name,
        "batch": batch,
        "threads": threads,
        "seconds": times,
        "floor_share": min(times["floor"]) / min(times["ours"]),
        "straightforward_floor_share": min(times["floor"]) / min(times["straightforward"]),
        "ratio": statistics.median(a / b for a, b in zip(times["ours"], times["straightforward"], strict=True)),
        "peak_ratio": peak(name, batch, "ours") / peak(name, batch, "straightforward"),
        "median_seconds": medians,
    }


def peak(name: str, batch: int, which: str) -> float:
    """Bytes of memory above the loaded weights, of one forward in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.model", "--peak", which, "--models", name, "--batches", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(name: str, batch: int, which: str) -> int:
    """Runs in the fresh process: peak resident size after one forward, less the size before it."""
    torch.set_num_threads(1)
    network: nn.Module = for_inference(build_preset(name))
    config: Any = network.config
    run = network if which == "ours" else straightforward(network)
    clips = torch.randn(batch, 3, config.frames, config.height, config.width)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    with torch.inference_mode():
        run(clips)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - pages * resource.getpagesize()


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cvidtr_s_8x8", "vidtr_s_8x8"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/model.json"))
    parser.add_argument("--peak", choices=["ours", "straightforward"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(measure_peak(arguments.models[0], arguments.batches[0], arguments.peak))
        return
    results = []
    for name in arguments.models:
        for batch in arguments.batches:
            for threads in arguments.threads:
                result = compare(name, batch, threads, arguments.rounds)
                results.append(result)
                print(
                    f"{name} batch {batch}, {threads} thread(s): {result['floor_share']:.3f} of the floor "
                    f"(straightforward {result['straightforward_floor_share']:.3f}), "
                    f"time {result['ratio']:.3f}x and memory {result['peak_ratio']:.2f}x of the straightforward forward"
                )
    machine = {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"benchmark": "model", "results": results, "machine": machine}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
