"""How soon a caller who follows a long film sees its first window, beside the whole time until the answer.

The film is made, small and with a keyframe every two seconds; `windows=all` asks for every part of it, from one
`vidtr up`. The classification is followed by its event stream, which shows the first windows while the rest is decoded.

    python -m benchmarks.first_window [--minutes 120] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.common.record import machine, write
from testing.program import Program
from testing.videos import repeated, write_video

PIECE_S, FPS = 10, 30
SIZE = (128, 72)
MOST_CLIPS = 10_000


def film(folder: Path, minutes: int) -> Path:
    """A film of small pictures."""
    piece = write_video(folder / "piece.mp4", FPS * PIECE_S, fps=FPS, size=SIZE, gop=2 * FPS)
    return repeated(piece, folder / "film.mp4", minutes * 60 // PIECE_S)


def followed(client: httpx.Client, path: Path) -> tuple[float, float, int]:
    """Seconds until the first window, seconds until the answer, and how many windows came before it."""
    headers = {"Accept": "text/event-stream", "Content-Type": "video/mp4"}
    name, first_s, early = "", 0.0, 0
    began = time.perf_counter()
    with client.stream(
        "POST", "/v1/classify", content=path.read_bytes(), params={"windows": "all"}, headers=headers
    ) as response:
        for line in response.iter_lines():
            if not line.startswith("event: "):
                continue
            name = line.removeprefix("event: ")
            if name == "window":
                first_s, early = first_s or time.perf_counter() - began, early + 1
    if name != "result" or not early:
        raise SystemExit(f"the stream ended with {name!r} after {early} windows")
    return first_s, time.perf_counter() - began, early


def main() -> None:
    """The command line. Prints the medians, and writes the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/first_window.json"))
    arguments = parser.parse_args()
    began = machine()
    with tempfile.TemporaryDirectory() as folder:
        path = film(Path(folder), arguments.minutes)
        program = Program(
            Path(folder) / "program",
            VIDTR_MAX_UPLOAD_BYTES=str(2 * path.stat().st_size),
            VIDTR_MAX_CLIPS_PER_JOB=str(MOST_CLIPS),
            VIDTR_MAX_QUEUE_CLIPS=str(2 * MOST_CLIPS),
            VIDTR_DECODE_TIMEOUT_S="3600",
            VIDTR_DECODE_CPU_S="3600",
            VIDTR_JOB_DEADLINE_S="3600",
            VIDTR_PAYLOAD_TTL_S="7200",
        )
        program.directory.mkdir()
        program.start()
        try:
            with httpx.Client(base_url=program.url, timeout=3600) as client:
                taken = [followed(client, path) for _ in range(arguments.rounds)]
        finally:
            program.stop()
    first_s, whole_s = (statistics.median(column) for column in list(zip(*taken, strict=True))[:2])
    share = statistics.median(first / whole for first, whole, _ in taken)
    print(f"{arguments.minutes} min: first window after {first_s:.2f} s of {whole_s:.1f} s, {share:.2%}")
    figures = {"first_s": first_s, "whole_s": whole_s, "share": share, "windows_before_the_end": taken[0][2]}
    write(
        "first_window",
        {f"{arguments.minutes} minutes": figures},
        began=began,
        ratios={"first_window_share": share},
        path=arguments.json,
    )


if __name__ == "__main__":
    main()
