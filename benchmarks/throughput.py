"""Clips per second from the queue to the result against the engine alone, on the same threads, side by side in one run.

Clips are put into a private Redis as the API puts them (payloads, then the job), a real worker process scores them, and
a clip counts when its result has arrived. Beside it, in turns:

- engine `torchscript`: the same `model.pt` at the same batch size in one process and nothing else, under plain
  TorchScript (`raw`) and rewritten for the CPU as the in-process backend runs it (`as served`).
- engine `triton`: the same Triton without the service (`alone`): a sweep of requests in flight, each a full batch or a
  single clip that Triton's own batcher joins with others, as perf_analyzer does it; the best of all counts.

    python -m benchmarks.throughput [--model NAME] [--engine E] [--seconds S] [--rounds N] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvloop
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.enqueue import broker
from benchmarks.common.models import NAMES, as_served, model_of, rate, raw
from service.contracts import ModelSpec
from service.inference.allocator import tune_malloc
from service.inference.registry import ModelFile
from service.inference.spec import INPUT
from service.local.triton_process import LocalTriton

WORKER = [sys.executable, "-m", "service.cli.main", "worker"]
BATCHES_IN_FLIGHT = 4
LONGEST_MESSAGE = 2**31 - 1


async def alone(url: str, spec: ModelSpec, clips: np.ndarray, size: int, in_flight: int) -> float:
    """Clips per second of Triton when `in_flight` requests of `size` clips are always on their way."""
    requests = []
    for first in range(0, len(clips) - size + 1, size):
        tensor = InferInput(INPUT, [size, *spec.clip_shape], "UINT8")
        tensor.set_data_from_numpy(clips[first : first + size])
        requests.append(tensor)
    wanted = [InferRequestedOutput(name) for name in spec.outputs]
    options = [(f"grpc.max_{way}_message_length", LONGEST_MESSAGE) for way in ("send", "receive")]
    client = InferenceServerClient(url, channel_args=options)
    waiting = iter(requests)

    async def one() -> None:
        for tensor in waiting:
            await client.infer(spec.name, [tensor], model_version=spec.version, outputs=wanted)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    seconds = time.perf_counter() - began
    await client.close()
    return len(requests) * size / seconds


async def sweep(url: str, spec: ModelSpec, clips: np.ndarray) -> dict[str, float]:
    """Clips per second by requests in flight and clips in each."""
    batch = spec.max_batch_size
    cells = [(batch, n) for n in (1, 2, 4)] + [(1, n) for n in (1, batch, 2 * batch, 4 * batch)]
    return {f"{size} x {n}": await alone(url, spec, clips, size, n) for size, n in cells}


async def measure(arguments: argparse.Namespace, model: ModelFile, scratch: Path, url: str) -> dict[str, Any]:
    """All figures of one engine, `url` being that of Triton where it is the engine."""
    torch.set_num_threads(arguments.threads)
    spec, batch = model.spec, model.spec.max_batch_size
    settings = {
        "model_repository": scratch / "models",
        "engine": arguments.engine,
        "torch_threads": arguments.threads,
        "default_model": spec.name,
        **({"triton_url": url} if url else {}),
    }
    async with broker(scratch, WORKER, **settings) as queue:
        ring = queue.clips(2 * batch)
        forwards = {} if url else {"raw": raw(model.path), "as served": as_served(model.path)}
        for forward in forwards.values():
            for _ in range(2):
                forward(torch.from_numpy(ring[:batch]))
        first = await queue.queue.round(queue.spec, ring, 2 * batch, BATCHES_IN_FLIGHT * batch)
        count = batch * max(2, round(arguments.seconds * first / batch))
        clips = ring[np.arange(count) % len(ring)]

        meter = Meter(queue.parts)
        cpu_s: dict[str, list[float]] = {name: [] for name in (*forwards, "service")}

        async def bare(name: str) -> float:
            began = time.process_time()
            found = rate(forwards[name], torch.from_numpy(clips), batch)
            cpu_s[name].append((time.process_time() - began) / count)
            return found

        async def through() -> float:
            meter.mark()
            found = await queue.queue.round(queue.spec, clips[: len(ring)], count, BATCHES_IN_FLIGHT * batch)
            meter.mark()
            cpu_s["service"].append(sum(meter.usage().cpu_s.values()) / count)
            return found

        figures: dict[str, Any] = {}
        ways: dict[str, Callable[[], Awaitable[float]]] = {name: partial(bare, name) for name in forwards}
        if url:
            figures["sweep_clips_per_s"] = found = await sweep(url, spec, clips)
            size, in_flight = map(int, max(found, key=lambda cell: found[cell]).split(" x "))
            ways["alone"] = lambda: alone(url, spec, clips, size, in_flight)
        series = await record.interleaved(arguments.rounds, {**ways, "service": through})
        figures["cpu_s_per_clip"] = cpu_s
        batches = await queue.metric("vidtr_batch_clips_count")
        figures["mean_batch"] = await queue.metric("vidtr_batch_clips_sum") / batches
    return {
        "model": spec.name,
        "engine": arguments.engine,
        "clips_per_round": count,
        "threads": arguments.threads,
        "batch": batch,
        "clips_per_s": series,
        "median_clips_per_s": {name: statistics.median(values) for name, values in series.items()},
        "ratios": {
            name: record.median_of_ratios(series["service"], values)
            for name, values in series.items()
            if name != "service"
        },
        **figures,
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start what is needed, measure, stop it."""
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as name, contextlib.ExitStack() as stack:
        scratch = Path(name)
        model = model_of(arguments.model, scratch / "models")
        url = ""
        if arguments.engine == "triton":
            server = LocalTriton(Path(".triton"), scratch / "models", log=scratch / "triton.log")
            url = stack.enter_context(server).addresses.grpc
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(arguments, model, scratch, url))


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--engine", choices=("torchscript", "triton"), default="torchscript")
    parser.add_argument("--seconds", type=float, default=8.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="threads of one forward, the same on both sides")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tune_malloc()
    began = record.machine()
    found = run(arguments)
    beside = f"{arguments.model}, {arguments.engine}: service over"
    ratios = {f"{beside} {name}": ratio for name, ratio in found["ratios"].items()}
    for name, values in found["cpu_s_per_clip"].items():
        if name != "service":
            about = f"{arguments.model}: CPU of {name} over CPU of the service"
            ratios[about] = record.median_of_ratios(values, found["cpu_s_per_clip"]["service"])
    name = f"throughput-{arguments.engine}-{arguments.model}"
    record.write(name, found, began=began, ratios=ratios, path=arguments.json)
    for label, ratio in ratios.items():
        print(f"{label:60} {ratio:.3f}")
    rates = ", ".join(f"{name} {value:.1f}" for name, value in found["median_clips_per_s"].items())
    print(f"clips/s: {rates}; mean batch {found['mean_batch']:.2f} of {found['batch']}")


if __name__ == "__main__":
    main()
