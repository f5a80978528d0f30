"""This version of the whole program beside an earlier commit: what a change costs, or gains.

Both run at the same time, each `vidtr up` with a Redis of its own; only one of them gets uploads at a time, in turns,
so that whatever else the machine does meets both. Capacity comes from a closed loop, CPU seconds a video with it,
latency from an open loop at half of the lesser capacity. Every ratio says how much better this version is: above 1 it
is faster. CPU seconds are told by process, and beside them what other work on the machine hardly changes: how many
scripts are called for a video, how many commands Redis runs for it, and how often processes wait.

    python -m benchmarks.earlier REF [--model NAME] [--seconds S] [--rounds N] [--requests N]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import uvloop
from redis import Redis

from benchmarks.common import record
from benchmarks.common.http import upload
from benchmarks.common.load import Capacity, percentiles_ms
from benchmarks.common.models import NAMES, model_of
from benchmarks.decode_videos import video
from benchmarks.e2e import KIND, at_rate, capacity, parts, path_of
from service.inference.registry import ModelFile
from testing.program import Program

SHARES = ("p50", "p99")
PARTS = ("program", "api", "decode", "worker", "redis")
COUNTS = ("calls of scripts", "commands of Redis", "waits of api, worker and Redis")


def code_of(ref: str, folder: Path) -> Path:
    """The files of a commit. Raises CalledProcessError where git does not know it."""
    archive = subprocess.run(("git", "archive", ref), check=True, capture_output=True).stdout  # noqa: S607
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


@contextlib.contextmanager
def running(scratch: Path, model: ModelFile, code: Path | None) -> Iterator[Program]:
    """`vidtr up` of one version, with that one model."""
    scratch.mkdir(parents=True)
    settings = {"VIDTR_MODEL_REPOSITORY": str(model.path.parents[2]), "VIDTR_DEFAULT_MODEL": model.spec.name}
    with Program(scratch, code=code, settings=settings) as program:
        yield program


class Counts:
    """What one program has done so far, read whenever `mark` is called."""

    def __init__(self, program: Program) -> None:
        self._redis_url = program.redis_url
        found = parts(program)
        self._pids = [*found["api"], *found["worker"], *found["redis"]]
        self._marks: list[tuple[int, ...]] = []

    def mark(self) -> None:
        """Read all counts."""
        with Redis.from_url(self._redis_url) as server:
            stats = server.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()}
        waits = sum(psutil.Process(pid).num_ctx_switches().voluntary for pid in self._pids)
        self._marks.append((calls.get("evalsha", 0), sum(calls.values()), waits))

    def between(self) -> dict[str, int]:
        """What was counted between the last two marks."""
        before, after = self._marks[-2:]
        return {name: b - a for name, a, b in zip(COUNTS, before, after, strict=True)}


async def counted(program: Program, message: bytes, seconds: float) -> tuple[Capacity, dict[str, float]]:
    """Capacity, and what a video took: CPU seconds by part of the program, and counts."""
    counts = Counts(program)
    found, used = await capacity(program, [message], seconds, around=counts.mark)
    used["api"] -= used["decode"]
    took = {**{part: used[part] for part in PARTS}, **counts.between()}
    return found, {name: value / max(1, found.good) for name, value in took.items()}


async def compared(programs: dict[str, Program], message: bytes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of each program, measured in turns."""
    for program in programs.values():
        await capacity(program, [message], 1.0)
    most = await record.interleaved(
        arguments.rounds,
        {name: partial(counted, program, message, arguments.seconds) for name, program in programs.items()},
    )
    per_s = {name: [found.per_s for found, _ in rounds] for name, rounds in most.items()}
    rate = min(statistics.median(rounds) for rounds in per_s.values()) / 2
    waits = await record.interleaved(
        arguments.rounds,
        {
            name: partial(at_rate, program.port, [message], rate, arguments.requests)
            for name, program in programs.items()
        },
    )
    return {
        "rate_per_s": rate,
        "videos_per_s": per_s,
        "a_video": {name: [took for _, took in rounds] for name, rounds in most.items()},
        "bad": {
            name: sum(found.bad for found, _ in most[name])
            + sum(not sample.answer.good for sample in chain(*waits[name]))
            for name in programs
        },
        "latency_ms": {
            name: [percentiles_ms([sample.latency_s for sample in samples]) for samples in rounds]
            for name, rounds in waits.items()
        },
    }


def ratios_of(figures: dict[str, Any]) -> dict[str, float]:
    """How much better this version is, as the median of the rounds' ratios."""
    per_s, took, waits = figures["videos_per_s"], figures["a_video"], figures["latency_ms"]
    found = {"capacity": record.median_of_ratios(per_s["this"], per_s["earlier"])}
    for name in PARTS + COUNTS:
        series = {version: [round_[name] for round_ in rounds] for version, rounds in took.items()}
        label = "CPU of a video" if name == "program" else f"CPU of {name}" if name in PARTS else name
        found[label] = record.median_of_ratios(series["earlier"], series["this"])
    for share in SHARES:
        series = {name: [round_[share] for round_ in rounds] for name, rounds in waits.items()}
        found[f"latency, {share}"] = record.median_of_ratios(series["earlier"], series["this"])
    return found


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start both, measure both."""
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as name:
        scratch = Path(name)
        model = model_of(arguments.model, scratch / "models")
        clip = arguments.video or video(scratch, KIND, True)
        message = upload(path_of(model.spec.name), clip.read_bytes())
        code = code_of(arguments.ref, scratch / "code")
        with running(scratch / "this", model, None) as this, running(scratch / "earlier", model, code) as earlier:
            return await compared({"this": this, "earlier": earlier}, message, arguments)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", help="the earlier commit, as git names it")
    parser.add_argument("--model", choices=NAMES, default="camera_motion")
    parser.add_argument("--video", type=Path, help="instead of a generated one of 10 s in 340p")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300, help="of one round at half load")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    figures = uvloop.run(run(arguments))
    ratios = ratios_of(figures)
    record.write(
        f"earlier-{arguments.model}",
        {"earlier": arguments.ref, **figures},
        began=began,
        ratios=ratios,
        path=arguments.json,
    )
    for label, ratio in ratios.items():
        print(f"{label:32} {ratio:.3f}")
    for name in PARTS + COUNTS:
        earlier, this = (statistics.median(took[name] for took in figures["a_video"][of]) for of in ("earlier", "this"))
        factor, unit = (1000, " ms of CPU") if name in PARTS else (1, "")
        print(f"a video, {name}: {factor * earlier:.2f} before, {factor * this:.2f} now{unit}")
    print(f"answers that were not 200: {figures['bad']}")


if __name__ == "__main__":
    main()
