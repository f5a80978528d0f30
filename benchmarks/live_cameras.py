"""How late the windows of many cameras are answered, how many are dropped, and whether memory stays flat.

The cameras send transport streams at the rate at which they film, each to a session of its own of one `vidtr up`, and
each session is followed. The delay of a window is from the arrival of its last byte to its answer; memory is that of
the API processes with their decode processes.

With `--kill-api-at` or `--kill-worker-at` there are two of both kinds, the cameras are divided among the API processes,
and after so many seconds one of them gets SIGKILL; another is started in its place. Memory is watched from then on.

    python -m benchmarks.live_cameras [--cameras 8] [--seconds 60] [--step 1.0] [--kill-api-at S] [--kill-worker-at S]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.common.live_camera import Camera, Film, Told
from benchmarks.common.record import machine, write
from testing.program import Program, Size
from testing.videos import remux, repeated, write_video

PIECE_S, FPS, SIZE = 10, 25, (640, 360)
# Memory before this share of the run is that of a program that starts, and so it is for a while after a kill.
WARM_SHARE, SETTLE_S = 0.3, 30.0


def film(folder: Path, seconds: int) -> bytes:
    """A transport stream of at least so many seconds, with a keyframe every two."""
    piece = write_video(folder / "piece.mp4", FPS * PIECE_S, fps=FPS, size=SIZE, gop=2 * FPS)
    whole = repeated(piece, folder / "film.mp4", -(-seconds // PIECE_S))
    return remux(whole, folder / "film.ts").read_bytes()


class Memory:
    """Watches the memory of processes with those that they started, in MiB.

    Attributes:
        seen: seconds since the start, and the memory then.
    """

    def __init__(self, processes: Callable[[], list[psutil.Process]]) -> None:
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: list[tuple[float, float]] = []
        self._start = time.perf_counter()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            total = 0
            for parent in self._processes():
                with contextlib.suppress(psutil.Error):
                    for one in (parent, *parent.children(recursive=True)):
                        # Pages that a fork shares with its parent count once in all of them together.
                        with contextlib.suppress(psutil.Error):
                            total += one.memory_full_info().pss
            self.seen.append((time.perf_counter() - self._start, total / 2**20))

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def run(program: Program, film: Film, cameras: int, step_s: float, kills: Sequence[tuple[float, str]]) -> list[Told]:
    """Let the cameras film, and end processes of these roles meanwhile, each after so many seconds."""
    urls = [program.first_url, program.other_api[0]] if kills else [program.url]
    start = time.perf_counter()
    with ThreadPoolExecutor(cameras) as threads:
        runs = [
            # Cameras do not film in step, and begin at one API process or the other.
            threads.submit(Camera(urls[n % len(urls) :] + urls[: n % len(urls)], film, step_s, start + n / cameras).run)
            for n in range(cameras)
        ]
        for at_s, role in kills:
            time.sleep(max(0.0, start + at_s - time.perf_counter()))
            program.kill_other(role)
        return [one.result() for one in runs]


def summary(told: Sequence[Told], memory: Memory, warm_s: float) -> tuple[dict[str, float], Counter[str]]:
    """The figures of a run whose memory counts after `warm_s`, and for what reasons windows were dropped."""
    drops: Counter[str] = Counter()
    for event in (event for one in told for event in one.events if event["kind"] == "dropped"):
        drops[event["why"]] += event["windows"]
    delays = sorted(window["delay_s"] for one in told for window in one.windows)
    warm = [mib for at_s, mib in memory.seen if at_s >= warm_s]
    third = max(1, len(warm) // 3)
    figures = {
        "windows": len(delays),
        "dropped": drops.total(),
        "repeated": sum(one.repeated for one in told),
        "gaps_unsaid": sum(one.unsaid for one in told),
        "resumed": sum(event.get("state") == "resumed" for one in told for event in one.events),
        "broken_connections": sum(one.broken for one in told),
        "delay_p50_s": statistics.median(delays),
        "delay_p99_s": delays[int(len(delays) * 0.99)],
        "delay_most_s": delays[-1],
        "memory_first_third_mib": statistics.mean(warm[:third]),
        "memory_last_third_mib": statistics.mean(warm[-third:]),
        "memory_most_mib": max(mib for _, mib in memory.seen),
    }
    return figures, drops


def main() -> None:
    """The command line. Prints the figures, and writes them where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--step", type=float, default=1.0)
    parser.add_argument("--kill-api-at", type=float, help="seconds after which an API process gets SIGKILL")
    parser.add_argument("--kill-worker-at", type=float, help="seconds after which a worker gets SIGKILL")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/live_cameras.json"))
    arguments = parser.parse_args()
    began, cameras = machine(), arguments.cameras
    asked = ((arguments.kill_api_at, "api"), (arguments.kill_worker_at, "worker"))
    kills = sorted((at_s, role) for at_s, role in asked if at_s is not None)
    seconds = -(-arguments.seconds // PIECE_S) * PIECE_S
    warm_s = max([WARM_SHARE * seconds, *(at_s + SETTLE_S for at_s, _ in kills)])
    if warm_s >= seconds:
        parser.error(f"nothing is filmed after the kill and {SETTLE_S:g} s more: kill earlier, or film longer")
    with tempfile.TemporaryDirectory() as folder:
        made = Film(film(Path(folder), seconds), seconds)
        program = Program(
            Path(folder) / "program",
            size=Size(2, 2) if kills else Size(),
            VIDTR_MAX_LIVE_STREAMS=str(cameras),
            VIDTR_STREAM_KEEP_EVENTS="100000",
        )
        program.directory.mkdir()
        program.start()
        try:
            first = program.process("api")
            with Memory(lambda: [first, *program.others("api")]) as memory:
                told = run(program, made, cameras, arguments.step, kills)
        finally:
            program.stop()
    figures, drops = summary(told, memory, warm_s)
    name = f"{cameras} cameras x {seconds} s" + "".join(f", {role} killed at {at_s:g} s" for at_s, role in kills)
    ends = Counter(one.reason for one in told)
    print(f"{name}, {SIZE[0]}x{SIZE[1]} at {FPS}/s, step {arguments.step:g} s: {dict(ends)}")
    print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()), dict(drops))
    minutes = {int(at_s // 60): f"{mib:.0f}" for at_s, mib in reversed(memory.seen)}
    print(f"memory each minute: {', '.join(minutes[minute] for minute in sorted(minutes))} MiB")
    write(
        "live_cameras",
        {name: figures},
        began=began,
        ratios={"memory_growth": figures["memory_last_third_mib"] / figures["memory_first_third_mib"]},
        path=arguments.json,
    )


if __name__ == "__main__":
    main()
