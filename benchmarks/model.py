"""Our forward against a straightforward one of the same weights, interleaved in one process, beside the floor.

Ours is a `model.pt` as it is exported, loaded as the in-process backend loads it. The straightforward forward counts
as a baseline where it reaches 0.85 of its own floor: the time that all its multiplications would take at the best rate
that torch's matrix product reaches at the model's own shapes in the same run. The floor of ours is that of the
multiplications that are needed: what the outputs depend on, which in the last layer is only the class token's query,
row of attention, output projection and MLP, but keys and values of every token. Since our products run over packed
weights, which are faster than torch's plain product, the floor by the packed rate is printed beside.

    python -m benchmarks.model [--models NAME …] [--batches N …] [--threads N …] [--precisions P …] [--rounds N]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.pooling_margins import clearest_clips
from benchmarks.reference_impl import cvidtr, vidtr
from service.inference.allocator import tune_malloc
from service.inference.cpu import optimize_for_cpu
from service.inference.microbatch import microbatch
from service.inference.torchscript_archive import load_archive
from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import measure
from service.model.factory import Network
from service.model.model_export import export_model
from service.model.preprocess import Normalize
from service.model.presets import build_preset, find_preset

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
REPEATS = 5


def straightforward(network: Network) -> Callable[[Tensor], Tensor]:
    """The plain forward over the network's own weights, from normalized clips to logits."""
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


class Rates:
    """The products of a model: its tokens, all and half of them, by its three kinds of weights."""

    def __init__(self, config: VidTrConfig | SequenceConfig, batch: int, dtype: torch.dtype) -> None:
        tokens, d = batch * config.frames * config.locations, config.dim
        shapes = [(rows, *weight) for rows in (tokens, tokens // 2) for weight in ((d, d), (config.mlp_dim, d))]
        shapes += [(rows, d, config.mlp_dim) for rows in (tokens, tokens // 2)]
        self._inputs = [(torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)) for m, n, k in shapes]
        self._packed = [torch.ops.mkldnn._reorder_linear_weight(weight, tokens) for _, weight in self._inputs]

    def best(self) -> tuple[float, float]:
        """FLOP/s of the fastest product, by torch's plain linear map and over packed weights."""
        plain, packed = 0.0, 0.0
        for (x, weight), blocks in zip(self._inputs, self._packed, strict=True):
            flops = 2.0 * x.size(0) * weight.numel()
            for _ in range(REPEATS):
                plain = max(plain, flops / seconds(partial(F.linear, x, weight)))
                by_blocks = lambda x=x, blocks=blocks: torch.ops.mkldnn._linear_pointwise(  # noqa: E731
                    x, blocks, None, "none", [], ""
                )
                packed = max(packed, flops / seconds(by_blocks))
        return plain, packed


def seconds(run: Callable[[], object]) -> float:
    """Seconds of one call: at one thread those of the processor, which other processes disturb less than the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    run()
    return clock() - started


def uint8_clips(config: VidTrConfig | SequenceConfig, batch: int) -> Tensor:
    """Noise `(B, T, H, W, 3)`."""
    return torch.randint(0, 256, (batch, config.frames, config.height, config.width, 3), dtype=torch.uint8)


def exported(name: str, network: Network, precision: Any, directory: Path) -> Path:
    """The `model.pt` of a network."""
    card = replace(find_preset(name).card, precision=precision)
    return export_model(network, directory, name=name, version=1, card=card) / "1" / "model.pt"


def as_served(path: Path) -> Callable[[Tensor], Any]:
    """The forward of the in-process backend, from uint8 clips to the four outputs."""
    forward = microbatch(optimize_for_cpu(load_archive(path)))

    def run(clips: Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return forward(clips)

    return run


def compare(name: str, batch: int, threads: list[int], precision: str, rounds: int) -> list[dict[str, Any]]:
    """Alternate the forwards and the products on every number of threads, so that all drift with the machine alike."""
    network = build_preset(name)
    with tempfile.TemporaryDirectory() as scratch:
        path = exported(name, network, precision, Path(scratch))
        forward = as_served(path)
        memory = peak(name, batch, path) / peak(name, batch)
    plain = straightforward(network)
    rates = Rates(network.config, batch, DTYPES[precision])
    # Where a selection is nearly a tie, the two forwards may well keep different frames.
    clips = clearest_clips(network, uint8_clips(network.config, 2 * batch), batch)
    normalized = Normalize()(clips).contiguous()
    times: dict[int, dict[str, list[float]]] = {n: {"ours": [], "plain": [], "rate": [], "packed": []} for n in threads}
    with torch.inference_mode():
        if precision == "fp32":
            torch.testing.assert_close(forward(clips)[0], plain(normalized), atol=1e-4, rtol=0)
        for _ in range(rounds):
            for n, of_threads in times.items():
                torch.set_num_threads(n)
                rate, packed = rates.best()
                of_threads["rate"].append(rate)
                of_threads["packed"].append(packed)
                of_threads["plain"].append(seconds(lambda: plain(normalized)))
                of_threads["ours"].append(seconds(lambda: forward(clips)))
    needed, computed = batch * needed_flops(network.config), batch * measure(network.config).training_flops
    one = min(times[threads[0]]["ours"])
    return [
        {
            "model": name,
            "batch": batch,
            "threads": n,
            "precision": precision,
            "seconds": {"ours": t["ours"], "straightforward": t["plain"]},
            "gflops": {"plain": max(t["rate"]) / 1e9, "packed": max(t["packed"]) / 1e9},
            "floor_share": needed / max(t["rate"]) / min(t["ours"]),
            "packed_floor_share": needed / max(t["packed"]) / min(t["ours"]),
            "straightforward_floor_share": computed / max(t["rate"]) / min(t["plain"]),
            "ratio": statistics.median(a / b for a, b in zip(t["ours"], t["plain"], strict=True)),
            "speedup_over_first_threads": one / min(t["ours"]),
            "peak_ratio": memory,
        }
        for n, t in times.items()
    ]


def peak(name: str, batch: int, model: Path | None = None) -> float:
    """Bytes above the loaded weights of one forward in a fresh process: of `model`, or of the straightforward one."""
    command = [sys.executable, "-m", "benchmarks.model", "--models", name, "--batches", str(batch), "--peak"]
    command += [] if model is None else [str(model)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(name: str, batch: int, model: str) -> int:
    """Runs in the fresh process: peak resident size during one forward, less the size before it."""
    torch.set_num_threads(1)
    config = find_preset(name).config
    clips = uint8_clips(config, batch)
    if model:
        run = as_served(Path(model))
    else:
        run = straightforward(build_preset(name))
        clips = Normalize()(clips).contiguous()
    ctypes.CDLL(None).malloc_trim(0)  # Memory that building the network has left would hide what the forward takes.
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    before = resident("VmRSS")
    with torch.inference_mode():
        run(clips)
    return resident("VmHWM") - before


def resident(which: str) -> int:
    """Bytes of a line of the process's own status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cvidtr_s_8x8", "vidtr_s_8x8"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/model.json"))
    parser.add_argument("--peak", nargs="?", const="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tune_malloc()
    if arguments.peak is not None:
        print(measure_peak(arguments.models[0], arguments.batches[0], arguments.peak))
        return
    results = []
    for name in arguments.models:
        for batch in arguments.batches:
            for precision in arguments.precisions:
                for result in compare(name, batch, arguments.threads, precision, arguments.rounds):
                    results.append(result)
                    report(result)
    machine = {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"benchmark": "model", "results": results, "machine": machine}, indent=2) + "\n"
    )


def report(result: dict[str, Any]) -> None:
    """One line."""
    baseline = ""
    if result["precision"] == "fp32":
        baseline = f"; straightforward {result['straightforward_floor_share']:.3f} of its own"
    print(
        f"{result['model']} batch {result['batch']}, {result['threads']} thread(s), {result['precision']}: "
        f"{result['floor_share']:.3f} of the floor ({result['packed_floor_share']:.3f} by packed products{baseline}), "
        f"time {result['ratio']:.3f}x and memory {result['peak_ratio']:.2f}x of the straightforward forward, "
        f"{result['speedup_over_first_threads']:.2f}x the speed on the first number of threads",
        flush=True,
    )


if __name__ == "__main__":
    main()
