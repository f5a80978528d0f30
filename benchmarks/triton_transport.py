"""What a call to Triton costs beside the forward: sent or through shared memory, with malloc as it is or tuned.

A network that does next to nothing takes clips of 8 x 224 x 224 in a real Triton on this machine. A client process
scores batches of them; clients of all variants take turns, so that a machine whose speed drifts slows all. Then models
are loaded and unloaded again and again. Printed are the median of a call and what server and client hold in memory,
each with its ratio to "inline, default malloc".

    python -m benchmarks.triton_transport [--calls N] [--rounds N] [--reloads N] [--preload LIBRARY] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil

from benchmarks.common import record
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.inference.triton_control import ModelControl
from service.local.triton_process import MALLOC, LocalTriton
from service.model.card import ModelCard
from service.model.config import VidTrConfig
from service.model.model_export import export_model
from service.model.vidtr import VidTr
from service.settings import Settings

NAME = "bench_transport"
BATCHES = (1, 8)
MIB = 2**20


def export(repository: Path) -> None:
    """A network as small as clips of full size allow."""
    config = VidTrConfig(
        height=224, width=224, frames=8, patch=112, depth=1, heads=1, dim=8, mlp_dim=8, classes=4, pooling=()
    )
    card = ModelCard(
        labels=("a", "b", "c", "d"),
        trained=False,
        description="benchmark",
        frame_step=8,
        reference_fps=30.0,
        resize_short_side=224,
    )
    export_model(VidTr(config).eval(), repository, name=NAME, version=1, card=card)


def held_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    process = psutil.Process(pid)
    return float(sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))) / MIB


async def client(url: str, calls: int, shared: bool) -> dict[str, float]:
    """Median milliseconds of a call for each batch size, and what this process holds after them."""
    backend = TritonBackend(TritonConfig(url, shared_memory=shared))
    await backend.start()
    [spec] = await backend.models()
    found: dict[str, float] = {}
    for batch in BATCHES:
        clips = np.random.default_rng(0).integers(0, 256, (batch, *spec.clip_shape), dtype=np.uint8)
        took = []
        for call in range(calls + 2):
            # As the worker has them: in memory of their own for each batch.
            fresh = np.stack(list(clips))
            started = time.perf_counter()
            await backend.infer(NAME, spec.version, fresh)
            if call >= 2:
                took.append((time.perf_counter() - started) * 1000)
        found[f"ms, batch {batch}"] = statistics.median(took)
    found["client MiB"] = psutil.Process().memory_info().rss / MIB
    await backend.close()
    return found


def run_client(url: str, calls: int, shared: bool, malloc: Mapping[str, str]) -> dict[str, float]:
    """`client` in a process of its own, whose allocator is tuned by `malloc`."""
    command = [sys.executable, "-m", "benchmarks.triton_transport", "--client", url, "--calls", str(calls)]
    done = subprocess.run(
        [*command, *(["--shared"] if shared else [])],
        env={**os.environ, **malloc},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


async def reload_often(server: LocalTriton, times: int) -> None:
    """Unload and load the model."""
    control = ModelControl(server.addresses.grpc, 120.0)
    for _ in range(times):
        await control.unload(NAME)
        await control.load(NAME)


@contextlib.contextmanager
def servers(scratch: Path, mallocs: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, LocalTriton]]:
    """One Triton for each way to tune malloc."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                LocalTriton(
                    Settings().triton_dir,
                    scratch / "models",
                    log=scratch / f"{number}.log",
                    explicit=True,
                    malloc=malloc,
                )
            )
            for number, (name, malloc) in enumerate(mallocs.items())
        }


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by variant."""
    mallocs: dict[str, Mapping[str, str]] = {
        "default malloc": {},
        "arenas": {"MALLOC_ARENA_MAX": MALLOC["MALLOC_ARENA_MAX"]},
        "tuned malloc": MALLOC,
    }
    if arguments.preload:
        mallocs[Path(arguments.preload).name] = {"LD_PRELOAD": arguments.preload}
    rounds: dict[str, list[dict[str, float]]] = {}
    with servers(scratch, mallocs) as running:
        for _ in range(arguments.rounds):
            for malloc, server in running.items():
                for way, shared in (("inline", False), ("shared", True)):
                    found = run_client(server.addresses.grpc, arguments.calls, shared, mallocs[malloc])
                    assert server.pid is not None
                    found["server MiB"] = held_mib(server.pid)
                    rounds.setdefault(f"{way}, {malloc}", []).append(found)
        for malloc, server in running.items():
            asyncio.run(reload_often(server, arguments.reloads))
            assert server.pid is not None
            rounds[f"inline, {malloc}"][-1]["server MiB after reloads"] = held_mib(server.pid)
    return {
        variant: {
            name: statistics.median(one[name] for one in found if name in one)
            for name in dict.fromkeys(name for one in found for name in one)
        }
        for variant, found in rounds.items()
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=40, help="calls of each batch size in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reloads", type=int, default=20, help="how often the model is unloaded and loaded")
    parser.add_argument("--preload", help="another allocator, such as libjemalloc.so.2, as one more variant")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        sys.stdout.write(json.dumps(asyncio.run(client(arguments.client, arguments.calls, arguments.shared))))
        return
    began = record.machine()
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as scratch:
        export(Path(scratch) / "models")
        medians = measure(arguments, Path(scratch))
    base = medians["inline, default malloc"]
    ratios = {
        variant: {name: value / base[name] for name, value in found.items()} for variant, found in medians.items()
    }
    for variant, found in medians.items():
        figures = ", ".join(f"{name} {value:.1f} ({ratios[variant][name]:.2f})" for name, value in found.items())
        print(f"{variant}: {figures}")
    flat = {f"{variant}: {name}": value for variant, found in ratios.items() for name, value in found.items()}
    record.write("triton_transport", medians, began=began, ratios=flat, path=arguments.json)


if __name__ == "__main__":
    main()
