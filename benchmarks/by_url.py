"""What a long film costs that is named by its URL, beside its upload over a link of the same speed.

The film is made: two hours with its index at the end. A web server of this process serves it at `--link` bytes a second
with `--delay-ms` before each answer; the upload is sent at the same speed. Both go to one `vidtr up`. On a slow link
`--computed-upload` takes for the upload what its bytes take at least.

    python -m benchmarks.by_url [--link 10e6] [--delay-ms 20] [--minutes 120] [--rounds 3] [--container mp4]
        [--computed-upload] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common.record import machine, write
from testing.program import Program
from testing.range_server import RangeServer, Served
from testing.videos import repeated, write_video

PIECE_BYTES = 1 << 16
PIECE_S = 10
OPTIONS: dict[str, dict[str, str]] = {"one window": {"windows": "1"}, "windows=auto": {}}


def film(folder: Path, minutes: int, container: str) -> Path:
    """A film whose pictures do not compress well."""
    pictures = np.random.default_rng(0).integers(0, 255, (12, 360, 640, 3), np.uint8)

    def draw(number: int, width: int, height: int) -> Any:
        picture = pictures[number % 12].copy()
        picture[:, number * 3 % width :][:, :60] = 255
        return picture

    options = {"crf": "40", "preset": "ultrafast"}
    piece = write_video(folder / "piece.mp4", 30 * PIECE_S, size=(640, 360), draw=draw, gop=60, codec_options=options)
    return repeated(piece, folder / f"film.{container}", minutes * 60 // PIECE_S)


def at_speed(data: bytes, bytes_per_s: float) -> Iterator[bytes]:
    """The bytes, as a link of that speed passes them on."""
    began = time.perf_counter()
    for first in range(0, len(data), PIECE_BYTES):
        time.sleep(max(0.0, began + first / bytes_per_s - time.perf_counter()))
        yield data[first : first + PIECE_BYTES]


def main() -> None:
    """The command line. Prints a table, and writes the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", type=float, default=10e6, help="bytes a second")
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--container", choices=["mp4", "mkv", "ts"], default="mp4")
    parser.add_argument("--computed-upload", action="store_true", help="send no upload; count its bytes over the link")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/by_url.json"))
    arguments = parser.parse_args()
    began, figures, ratios = machine(), {}, {}
    with tempfile.TemporaryDirectory() as folder, RangeServer() as server:
        path = film(Path(folder), arguments.minutes, arguments.container)
        data = path.read_bytes()
        served = Served(data, pause_s=arguments.delay_ms / 1000, bytes_per_s=arguments.link)
        url = server.serve(f"/film.{arguments.container}", served)
        program = Program(
            Path(folder) / "program",
            VIDTR_SOURCE_HOSTS="127.0.0.1",
            VIDTR_SOURCE_PRIVATE_TARGETS="true",
            VIDTR_MAX_UPLOAD_BYTES=str(2 * len(data)),
        )
        program.directory.mkdir()
        program.start()
        try:
            with httpx.Client(base_url=program.url, timeout=900) as client:
                for name, options in OPTIONS.items():
                    taken = measure(client, url, data, options, arguments)
                    figures[name] = {key: value for key, value in taken.items() if key != "ratio"}
                    ratios[name] = taken["ratio"]
                    print(
                        f"{name:14} {len(data) / 1e6:.0f} MB: by URL {taken['url_s']:.2f} s, {taken['share']:.2%} of"
                        f" the bytes in {taken['requests']:.0f} requests; upload {taken['upload_s']:.1f} s;"
                        f" ratio {taken['ratio']:.3f}"
                    )
        finally:
            program.stop()
    write("by_url", figures, began=began, ratios=ratios, path=arguments.json)


def measure(
    client: httpx.Client, url: str, data: bytes, options: dict[str, str], arguments: argparse.Namespace
) -> dict[str, float]:
    """Medians in seconds of both ways, in turn, and what was read."""
    by_url, by_upload, read = [], [], {}
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        answer = client.post("/v1/classify", json={"source": {"url": url}}, params=options)
        by_url.append(time.perf_counter() - started)
        read = answer.raise_for_status().json()["source"]
        if arguments.computed_upload:
            by_upload.append(len(data) / arguments.link)
            continue
        started = time.perf_counter()
        headers = {"Content-Type": "video/mp4", "Content-Length": str(len(data))}
        direct = client.post("/v1/classify", content=at_speed(data, arguments.link), params=options, headers=headers)
        by_upload.append(time.perf_counter() - started)
        if answer.json()["windows"] != direct.raise_for_status().json()["windows"]:
            raise SystemExit("the answers differ")
    url_s, upload_s = statistics.median(by_url), statistics.median(by_upload)
    return {
        "url_s": url_s,
        "upload_s": upload_s,
        "ratio": url_s / upload_s,
        "share": read["bytes_read"] / read["bytes_total"],
        "requests": read["requests"],
    }


if __name__ == "__main__":
    main()
