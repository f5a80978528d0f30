"""Videos a second of the decode pool on all cores against a bare PyAV loop on all cores, and the pool's peak memory.

The bare loop decodes from the front to the last wanted frame, converts the wanted ones, and throws them away: no
limits, no isolation, no file of clips. Beside it runs a pool with `decode_isolation=upload`, which shows what a
process for each upload costs.
Rounds of all three alternate, at the same priority. `CPU` is the ratio of CPU seconds a video, which other work on the
machine disturbs less than the ratio of wall-clock times does.

    python -m benchmarks.decode_pool [--videos FOLDER] [--rounds N] [--small] [--memory] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from av.video.reformatter import VideoReformatter

from benchmarks.common.cpu import tree_cpu_s
from benchmarks.decode_videos import KINDS, LARGE, video
from service.contracts import ClipSpec, JobRequest
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import DecodeConfig
from service.video.pool import DecodePool

MIB = 1024 * 1024
CONFIG = Settings(_env_file=None).subset(DecodeConfig)
SPEC = ClipSpec(
    frames=8,
    frame_step=8,
    reference_fps=30.0,
    sampling="time",
    height=224,
    width=224,
    resize_short_side=256,
    resize="swscale_bilinear",
)
NICENESS = 5
LONGEST_S = 20.0  # further into a video the bare loop is hopeless, and not measured
ROUND_S = 2.0


@dataclass(frozen=True)
class Cell:
    """One video and one request; `frames` are the numbers of the frames that it samples."""

    name: str
    path: Path
    request: JobRequest
    frames: tuple[int, ...]
    size: tuple[int, int]
    spec: ClipSpec = SPEC


def bare(cell: Cell, number: int) -> float:
    """CPU seconds of decoding one video the plain way."""
    began = time.process_time()
    width, height = cell.size
    spec = cell.spec
    left, top = (width - spec.width) // 2, (height - spec.height) // 2
    clip = np.empty((len(cell.frames), spec.height, spec.width, 3), np.uint8)
    reformatter = VideoReformatter()
    wanted = {frame: place for place, frame in enumerate(cell.frames)}
    with av.open(str(cell.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                picture = reformatter.reformat(
                    frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1
                )
                clip[wanted[index]] = picture.to_ndarray()[top : top + spec.height, left : left + spec.width]
            if index == cell.frames[-1]:
                break
    return time.process_time() - began


def in_processes(pool: Pool, work: Callable[[int], float], videos: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds a video."""
    began = time.perf_counter()
    seconds = pool.map(work, range(videos), chunksize=1)
    return (time.perf_counter() - began) / videos, sum(seconds) / videos


@dataclass(frozen=True)
class Running:
    """A pool and the ids of its processes."""

    pool: DecodePool
    pids: list[int]


async def started(config: DecodeConfig) -> Running:
    before = set(psutil.Process().children())
    pool = DecodePool(config)
    await pool.start()
    return Running(pool, [child.pid for child in psutil.Process().children() if child not in before])


async def in_pool(running: Running, cell: Cell, videos: int, folder: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds a video, those of this process included."""
    room = asyncio.Semaphore((os.cpu_count() or 1) + 1)

    async def one(number: int) -> None:
        async with room:
            clips = folder / f"clips{number}"
            await running.pool.decode(cell.path, clips, SPEC, cell.request)
            clips.unlink()

    before, began = tree_cpu_s(running.pids) + time.process_time(), time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(videos)))
    wall = time.perf_counter() - began
    return wall / videos, (tree_cpu_s(running.pids) + time.process_time() - before) / videos


def cell_of(name: str, path: Path, request: JobRequest, folder: Path, spec: ClipSpec = SPEC) -> Cell | None:
    """The cell; None where the bare loop would have to decode too much."""
    decoded = decode_file(path, folder / "clips", spec, request, CONFIG)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 30)
        ratio = spec.resize_short_side / min(stream.width, stream.height)
        size = int(stream.width * ratio), int(stream.height * ratio)
    times = sorted({moment for window in decoded.windows for moment in window.times_s})
    if times[-1] > LONGEST_S:
        return None
    frames = tuple(round(t * fps) for t in times)
    return Cell(f"{name}, windows={request.windows}", path, request, frames, size, spec)


async def measure(cells: list[Cell], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Best wall-clock and CPU times a video of the three ways, for each cell."""
    workers = os.cpu_count() or 1
    config = replace(CONFIG, decode_workers=workers, decode_recycle_after=1_000_000)
    results = []
    with multiprocessing.get_context("spawn").Pool(workers, os.nice, (NICENESS,)) as processes:
        running = await started(config)
        one_each = await started(replace(config, decode_isolation="upload"))
        for cell in cells:
            videos = max(2 * workers, math.ceil(ROUND_S / bare(cell, 0)))
            best = dict.fromkeys(("pool", "process_per_upload", "bare"), (math.inf, math.inf))
            for _ in range(rounds):
                figures = {
                    "pool": await in_pool(running, cell, videos, folder),
                    "bare": await asyncio.to_thread(in_processes, processes, partial(bare, cell), videos),
                    "process_per_upload": await in_pool(one_each, cell, videos, folder),
                }
                best = {tool: (min(best[tool][0], w), min(best[tool][1], c)) for tool, (w, c) in figures.items()}
            ratios = {
                tool: {"wall": best["bare"][0] / best[tool][0], "cpu": best["bare"][1] / best[tool][1]}
                for tool in ("pool", "process_per_upload")
            }
            milliseconds = {tool: [round(1000 * value, 2) for value in pair] for tool, pair in best.items()}
            results.append({"cell": cell.name, "ratios": ratios, "wall_and_cpu_ms": milliseconds})
            text = ", ".join(f"{tool} {r['wall']:.2f}x (CPU {r['cpu']:.2f}x)" for tool, r in ratios.items())
            print(f"{cell.name:50s} {text}  ms: {milliseconds}", flush=True)
        await running.pool.close()
        await one_each.pool.close()
    return results


class Memory:
    """Samples the memory of this process and all below it; shared pages count once.

    Attributes:
        peak: the most bytes seen.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, sum(map(_proportional, [me, *me.children(recursive=True)])))


def _proportional(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


async def memory(folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """Peak memory of the pool with all its processes for a long film, and for many large uploads at once."""
    results = []
    workers = os.cpu_count() or 1
    for name, kind, windows, uploads in (
        ("2 h 480p film, windows=10", "2 h 480p", 10, 1),
        ("2 h 480p film, windows=200", "2 h 480p", 200, 1),
        ("16 uploads in 4K at once", LARGE, 1, 16),
    ):
        path = video(folder, kind, True)
        watch = Memory()
        with watch.watching():
            pool = DecodePool(replace(CONFIG, decode_workers=workers))
            await pool.start()
            await asyncio.sleep(0.2)
            idle = watch.peak
            request = JobRequest(windows=windows)
            await asyncio.gather(
                *(pool.decode(path, scratch / f"clips{number}", SPEC, request) for number in range(uploads))
            )
            await pool.close()
        bound = workers * CONFIG.decode_memory_bytes
        results.append({"case": name, "idle_bytes": idle, "peak_bytes": watch.peak, "bound_bytes": bound})
        print(
            f"{name:52s} {watch.peak / MIB:.0f} MiB with {workers} processes, {idle / MIB:.0f} MiB idle; "
            f"the settings allow {bound / MIB:.0f} MiB",
            flush=True,
        )
    return results


async def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as name:
        scratch = Path(name)
        folder = options.videos or scratch
        folder.mkdir(parents=True, exist_ok=True)
        report: dict[str, Any] = {"python": sys.version, "av": av.__version__, "cores": os.cpu_count()}
        if not options.memory_only:
            requests = (JobRequest(windows=1), JobRequest())
            kinds = list(KINDS)[: 1 if options.small else None]
            cells = [cell_of(kind, video(folder, kind, True), ask, scratch) for kind in kinds for ask in requests]
            report["cells"] = await measure([cell for cell in cells if cell], options.rounds, scratch)
            report["ratios"] = {
                f"{cell['cell']}: CPU of the bare loop over CPU of the pool": round(cell["ratios"]["pool"]["cpu"], 4)
                for cell in report["cells"]
            }
        if options.memory or options.memory_only:
            report["memory"] = await memory(folder, scratch)
        report["peak_rss_of_a_child_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder that keeps the generated videos; a temporary one if unset")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="the first kind of video only")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--memory-only", action="store_true", help="measure nothing but peak memory")
    parser.add_argument("--json", type=Path)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
