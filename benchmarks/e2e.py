"""The whole program, `vidtr up` as users start it, under real uploads: how much of the cores goes into the work itself.

D and M are the CPU seconds a video that decoding in a bare PyAV loop and the network under raw TorchScript take,
measured in the same run, with a process of that kind on each core: cores slow each other down, by what they share. If a
program did nothing else, it would answer cores / (D + M) videos a second; the cores are those of the machine less what
the load generator takes of them. The efficiency is the share of that which is reached. Beside it stands the same with
D and M of one process on an otherwise idle machine.

Latency is measured by an open loop at half of the capacity. What is added is a request's whole time less its decode and
inference times as the answer states them, less what an empty FastAPI handler takes for the same uploads at that rate.

    python -m benchmarks.e2e [--model NAME] [--engine E] [--videos FILE …] [--sweep] [--no-latency] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvloop

from benchmarks.common import record
from benchmarks.common.cpu import CORES, Meter
from benchmarks.common.http import Client, upload
from benchmarks.common.load import Capacity, Sample, closed_loop, open_loop, percentiles_ms
from benchmarks.common.models import NAMES, cpu_s_per_clip, model_of, raw
from benchmarks.decode_pool import Cell, bare, cell_of
from benchmarks.decode_videos import video
from service.contracts import JobRequest
from service.inference.allocator import tune_malloc
from service.inference.registry import ModelFile
from service.local.process import ServerProcess, free_ports
from testing.program import Program

KIND = "10 s 340p, groups of 12"
WINDOWS = 1
DECODES = 20
CLIENTS = 4 * CORES
# The settings that a careful user would try; `vidtr up` without any is to be nearly as good as the best of them.
SWEEP = {
    "VIDTR_DECODE_WORKERS": [str(n) for n in sorted({1, CORES, CORES + 1})],
    "VIDTR_TORCH_THREADS": [str(n) for n in sorted({1, CORES})],
}


def path_of(model: str) -> str:
    """Where videos are posted."""
    return f"/v1/classify?windows={WINDOWS}&attention=none&model={model}"


@contextlib.contextmanager
def program(scratch: Path, model: ModelFile, *arguments: str, **environment: str) -> Iterator[Program]:
    """`vidtr up` with that one model."""
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {"VIDTR_MODEL_REPOSITORY": str(model.path.parents[2]), "VIDTR_DEFAULT_MODEL": model.spec.name}
    with Program(scratch, *arguments, settings={**settings, **environment}) as running:
        yield running


@contextlib.asynccontextmanager
async def empty(scratch: Path) -> AsyncIterator[int]:
    """The empty handler; gives its port."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "benchmarks.common.empty_app:app", "--port", str(port)]
    server = ServerProcess([*command, "--no-access-log"], name="the empty handler", log=scratch / "empty.log")

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/docs").is_success
        except httpx.TransportError:
            return False

    server.start()
    try:
        await asyncio.to_thread(server.wait_until, answers, 60.0)
        yield port
    finally:
        server.stop(5.0)


@dataclass(frozen=True)
class Needed:
    """D and M: CPU seconds a video."""

    decode: float
    network: float

    @property
    def cpu_s(self) -> float:
        return self.decode + self.network


class Work:
    """What has to be done for a video, measured whenever asked, in processes of its own; one for each core."""

    def __init__(self, model: ModelFile, cells: list[Cell]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(
            CORES, _prepare, (model.path, model.spec.clip_shape, model.spec.max_batch_size, cells)
        )

    async def __call__(self) -> dict[str, Needed]:
        """On all cores at once, and alone: on one thread each, the way that takes least, in full batches."""

        def measured(processes: int) -> Needed:
            decode, network = (
                statistics.fmean(self._pool.map(work, range(processes), chunksize=1)) for work in (_decode, _network)
            )
            return Needed(decode, WINDOWS * network)

        return await asyncio.to_thread(lambda: {"all cores": measured(CORES), "alone": measured(1)})

    def close(self) -> None:
        """End the processes."""
        self._pool.terminate()
        self._pool.join()


_PREPARED: dict[str, Any] = {}


def _prepare(path: Path, shape: tuple[int, ...], batch: int, cells: list[Cell]) -> None:
    tune_malloc()
    torch.set_num_threads(1)
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2 * batch, *shape), dtype=np.uint8))
    forward = raw(path)
    forward(clips[:batch])
    _PREPARED.update(forward=forward, clips=clips, batch=batch, cells=cells)


def _decode(_: int) -> float:
    return statistics.fmean(bare(cell, 0) for _ in range(DECODES) for cell in _PREPARED["cells"])


def _network(_: int) -> float:
    return cpu_s_per_clip(_PREPARED["forward"], _PREPARED["clips"], _PREPARED["batch"])


def parts(running: Program) -> dict[str, list[int]]:
    """Process ids by part of the program; `api` holds `decode`, and `program` all of them."""
    top = running.descendants[0]
    by_role = {
        role: [child for child in top.children() if named in " ".join(child.cmdline())]
        for role, named in (("api", "service.cli.main api"), ("worker", "service.cli.main worker"), ("redis", "redis"))
    }
    found = {role: [process.pid for process in processes] for role, processes in by_role.items()}
    decode = [child.pid for process in by_role["api"] for child in process.children()]
    return {"program": [top.pid], **found, "decode": decode}


async def capacity(
    running: Program, messages: list[bytes], seconds: float, around: Callable[[], None] = lambda: None
) -> tuple[Capacity, dict[str, float]]:
    """Videos per second of a closed loop, and the CPU seconds that the program, its parts and this process took.

    `around` is called at the begin and at the end of the counted part.
    """
    client, turn = Client(running.port), cycle(messages)
    meter = Meter(parts(running))

    def mark() -> None:
        around()
        meter.mark()

    found = await closed_loop(lambda: client.send(next(turn)), CLIENTS, seconds, around=mark)
    client.close()
    if found.bad:
        print(f"{found.bad} of {found.bad + found.good} answers were not 200", file=sys.stderr)
    return found, meter.usage().cpu_s


async def at_rate(port: int, messages: list[bytes], rate: float, count: int) -> list[Sample]:
    """An open loop over all messages in turn."""
    client, turn = Client(port), cycle(messages)
    samples = await open_loop(lambda: client.send(next(turn)), rate, count)
    client.close()
    return samples


def beyond_work_s(samples: list[Sample]) -> list[float]:
    """Latency of each answer less the decode and inference times that it states; seconds."""
    beyond = []
    for sample in samples:
        if sample.answer.good:
            timings = json.loads(sample.answer.body)["timings_ms"]
            beyond.append(sample.latency_s - (timings["decode"] + timings["inference"]) / 1000)
    return beyond


async def latency(
    running: Program, scratch: Path, messages: list[bytes], rate: float, count: int, rounds: int
) -> dict[str, Any]:
    """Percentiles of what the program adds beyond the work, and of the empty handler, in turns."""
    async with empty(scratch) as port:
        series = await record.interleaved(
            rounds,
            {
                "program": lambda: at_rate(running.port, messages, rate, count),
                "empty": lambda: at_rate(port, messages, rate, count),
            },
        )
    ours = [sample for samples in series["program"] for sample in samples]
    nothing = [sample.latency_s for samples in series["empty"] for sample in samples]
    beyond, handler = percentiles_ms(beyond_work_s(ours)), percentiles_ms(nothing)
    return {
        "rate_per_s": rate,
        "requests": len(ours),
        "bad": sum(not sample.answer.good for sample in ours),
        "whole_ms": percentiles_ms([sample.latency_s for sample in ours]),
        "beyond_work_ms": beyond,
        "empty_handler_ms": handler,
        "added_ms": {share: round(beyond[share] - handler[share], 3) for share in beyond},
    }


def cpu_share(found: Capacity, used: dict[str, float], work: Needed) -> float:
    """CPU seconds of the work over those that the program took for it: other load on the machine disturbs it little."""
    return found.good * work.cpu_s / used["program"]


def efficiency(found: Capacity, work: Needed) -> float:
    """Videos per second times the CPU seconds of the work of one, over the cores that were there for it."""
    return found.per_s * work.cpu_s / (CORES - found.own_cpu_s / found.seconds)


async def swept(scratch: Path, model: ModelFile, messages: list[bytes], seconds: float, rounds: int) -> dict[str, Any]:
    """Capacity of every setting of the sweep and of none, in turns; each time a fresh program."""
    settings = [dict(zip(SWEEP, values, strict=True)) for values in product(*SWEEP.values())]
    names = {"untuned": {}, **{" ".join(f"{k[6:].lower()}={v}" for k, v in one.items()): one for one in settings}}

    async def one(number: int, environment: dict[str, str]) -> float:
        with program(scratch / str(number), model, **environment) as running:
            return (await capacity(running, messages, seconds))[0].per_s

    ways = {
        name: lambda number=number, environment=environment: one(number, environment)
        for number, (name, environment) in enumerate(names.items())
    }
    series = await record.interleaved(rounds, ways)
    return {name: statistics.median(values) for name, values in series.items()}


async def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """All that was asked for: figures and ratios."""
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as name:
        scratch = Path(name)
        model = model_of(arguments.model, scratch / "models")
        paths = arguments.videos or [video(scratch, KIND, True)]
        request = JobRequest(windows=WINDOWS)
        cells = [cell for path in paths if (cell := cell_of(path.name, path, request, scratch, model.spec))]
        messages = [upload(path_of(model.spec.name), cell.path.read_bytes()) for cell in cells]
        with (
            contextlib.closing(Work(model, cells)) as work,
            program(scratch / "up", model, "--engine", arguments.engine) as running,
        ):
            await capacity(running, messages, 1.0)
            ways: dict[str, Callable[[], Awaitable[Any]]] = {
                "work": work,
                "program": partial(capacity, running, messages, arguments.seconds),
            }
            series = await record.interleaved(arguments.rounds, ways)
            rounds = list(zip(series["program"], series["work"], strict=True))
            efficiencies = {
                how: [efficiency(found, needed[how]) for (found, _), needed in rounds] for how in ("all cores", "alone")
            }
            shares = [cpu_share(found, used, needed["all cores"]) for (found, used), needed in rounds]
            rate = statistics.median(found.per_s for found, _ in series["program"])
            figures: dict[str, Any] = {
                "model": model.spec.name,
                "engine": arguments.engine,
                "videos": {cell.name: cell.path.stat().st_size for cell in cells},
                "work_cpu_s": [{how: asdict(needed) for how, needed in both.items()} for both in series["work"]],
                "videos_per_s": [found.per_s for found, _ in series["program"]],
                "bad": sum(found.bad for found, _ in series["program"]),
                "cpu_s_per_video": [
                    {part: cpu / max(1, found.good) for part, cpu in used.items()} for found, used in series["program"]
                ],
                "efficiency": efficiencies,
                "cpu_share": shares,
            }
            about = f"{arguments.model}, {arguments.engine}"
            ratios = {
                f"{about}: efficiency": statistics.median(efficiencies["all cores"]),
                f"{about}: efficiency, by the work on an idle machine": statistics.median(efficiencies["alone"]),
                f"{about}: CPU of the work over CPU taken": statistics.median(shares),
            }
            if arguments.latency:
                count = arguments.requests
                figures["latency"] = await latency(running, scratch, messages, rate / 2, count, arguments.rounds)
        if arguments.sweep:
            found = await swept(scratch / "sweep", model, messages, arguments.seconds, arguments.rounds)
            figures["sweep_videos_per_s"] = found
            ratios[f"{arguments.model}: untuned over best tuned"] = found["untuned"] / max(found.values())
    return figures, ratios


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--engine", choices=("torchscript", "triton"), default="torchscript")
    parser.add_argument("--videos", nargs="+", type=Path, help="instead of a generated one of 10 s in 340p")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of one round at half load")
    parser.add_argument("--no-latency", dest="latency", action="store_false")
    parser.add_argument("--sweep", action="store_true", help="measure other settings too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures, ratios = runner.run(run(arguments))
    name = f"e2e-{arguments.engine}-{arguments.model}"
    record.write(name, figures, began=began, ratios=ratios, path=arguments.json)
    for label, ratio in ratios.items():
        print(f"{label:70} {ratio:.3f}")
    print(f"{statistics.median(figures['videos_per_s']):.2f} videos/s on {CORES} cores")
    if "latency" in figures:
        found = figures["latency"]
        print(f"at {found['rate_per_s']:.2f}/s, added to the work and an empty handler: {found['added_ms']} ms")


if __name__ == "__main__":
    main()
