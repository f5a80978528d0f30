"""How late the windows of many cameras are answered, how many are dropped, and whether memory stays flat.

The cameras send transport streams at the rate at which they film, each to a session of its own of one `vidtr up`, and
each session is followed. The delay of a window is from the arrival of its last byte to its answer; memory is that of
the API with its decode processes.

    python -m benchmarks.live_cameras [--cameras 8] [--seconds 60] [--step 1.0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from benchmarks.common.record import machine, write
from testing.program import Program
from testing.videos import remux, repeated, write_video

PIECE_S, FPS, SIZE = 10, 25, (640, 360)
TICK_S = 0.1
# Memory before this share of the run is that of a program that starts.
WARM_SHARE = 0.3


def film(folder: Path, seconds: int) -> bytes:
    """A transport stream of at least so many seconds, with a keyframe every two."""
    piece = write_video(folder / "piece.mp4", FPS * PIECE_S, fps=FPS, size=SIZE, gop=2 * FPS)
    whole = repeated(piece, folder / "film.mp4", -(-seconds // PIECE_S))
    return remux(whole, folder / "film.ts").read_bytes()


def filmed(data: bytes, seconds: int, begin_at: float) -> Iterator[bytes]:
    """The bytes, as a camera makes them."""
    at = 0
    while at < len(data):
        due = int(len(data) * min(1.0, (time.perf_counter() - begin_at) / seconds))
        if due > at:
            yield data[at:due]
            at = due
        time.sleep(TICK_S)


def camera(url: str, data: bytes, seconds: int, step: float, begin_at: float) -> list[dict[str, object]]:
    """Send one stream and follow it; its events."""
    found: list[dict[str, object]] = []
    with httpx.Client(base_url=url, timeout=seconds + 120) as client:
        begun = client.post("/v1/streams", json={"step": step, "top_k": 1, "attention": "none"})
        begun.raise_for_status()
        stream = begun.json()

        def follow() -> None:
            kind = ""
            with client.stream("GET", stream["events_url"]) as answer:
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    kind = value if name == "event" else kind
                    if name == "data":
                        found.append({"kind": kind, **json.loads(value)})

        following = threading.Thread(target=follow)
        following.start()
        client.post(stream["media_url"], content=filmed(data, seconds, begin_at)).raise_for_status()
        following.join()
    return found


class Memory:
    """Watches the memory of a process with those that it started, in MiB."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: list[float] = []

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            total = 0
            for one in (self._process, *self._process.children(recursive=True)):
                try:
                    # Pages that a fork shares with its parent count once in all of them together.
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            self.seen.append(total / 2**20)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def main() -> None:
    """The command line. Prints the figures, and writes them where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--step", type=float, default=1.0)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/live_cameras.json"))
    arguments = parser.parse_args()
    began, cameras = machine(), arguments.cameras
    seconds = -(-arguments.seconds // PIECE_S) * PIECE_S
    with tempfile.TemporaryDirectory() as folder:
        data = film(Path(folder), seconds)
        program = Program(
            Path(folder) / "program",
            VIDTR_MAX_LIVE_STREAMS=str(cameras),
            VIDTR_STREAM_KEEP_EVENTS="100000",
        )
        program.directory.mkdir()
        program.start()
        try:
            with Memory(program.process("api")) as memory, ThreadPoolExecutor(cameras) as threads:
                start = time.perf_counter()
                # Cameras do not film in step.
                runs = [
                    threads.submit(camera, program.url, data, seconds, arguments.step, start + n / cameras)
                    for n in range(cameras)
                ]
                events = [run.result() for run in runs]
        finally:
            program.stop()
    told = [event for one in events for event in one if event["kind"] == "window"]
    drops: Counter[str] = Counter()
    for event in (event for one in events for event in one if event["kind"] == "dropped"):
        drops[str(event["why"])] += int(str(event["windows"]))
    delays = sorted(float(str(event["delay_s"])) for event in told)
    ends = Counter(str(one[-1].get("reason")) for one in events)
    warm = memory.seen[int(len(memory.seen) * WARM_SHARE) :]
    third = max(1, len(warm) // 3)
    figures = {
        "windows": len(told),
        "dropped": drops.total(),
        "delay_p50_s": statistics.median(delays),
        "delay_p99_s": delays[int(len(delays) * 0.99)],
        "memory_first_third_mib": statistics.mean(warm[:third]),
        "memory_last_third_mib": statistics.mean(warm[-third:]),
        "memory_most_mib": max(memory.seen),
    }
    print(f"{cameras} cameras x {seconds} s, {SIZE[0]}x{SIZE[1]} at {FPS}/s, step {arguments.step:g} s: {dict(ends)}")
    print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()), dict(drops))
    write(
        "live_cameras",
        {f"{cameras} cameras x {seconds} s": figures},
        began=began,
        ratios={"memory_growth": figures["memory_last_third_mib"] / figures["memory_first_third_mib"]},
        path=arguments.json,
    )


if __name__ == "__main__":
    main()
