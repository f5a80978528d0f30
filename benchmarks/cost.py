"""What 1,000 minutes of video cost on cores that are paid by the hour, beside what others ask for as much.

`vidtr up` answers minutes of video, with windows over all of it (`windows=all`), one after another. All CPU seconds of
API, decoders, worker and Redis count; what they cost is their share of an hour at the price of a vCPU. That is the cost
of cores that are always busy: idle ones, memory, disks, the network and people come on top. The prices of others are
those of public lists, for what they answer and this does not: more labels, and search.

    python -m benchmarks.cost [--price 0.05] [--rounds 3] [--record] [--json FILE]

`--record` writes benchmarks/cost.json, of which the tables of the documentation are made:

    python -m benchmarks.cost --table
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.models import model_of
from benchmarks.decode_videos import video
from benchmarks.e2e import parts, program
from testing.videos import repeated

RECORDED = Path(__file__).with_name("cost.json")
PRICE = 0.05
"""Dollars for an hour of a vCPU: about what large clouds ask for one of a general machine on demand."""
MINUTES = 1000
LISTED = {
    "Google Video Intelligence, shot detection": (50.0, 50.0),
    "Google Video Intelligence, labels": (100.0, 100.0),
    "Twelve Labs": (29.0, 43.0),
}
"""Dollars for 1,000 minutes of video, from and to, of public price lists in November 2026."""
# A model, a kind of video of 10 s, and how many of those one upload holds.
CELLS = (
    ("camera_motion", "10 s 340p, groups of 12", 6),
    ("camera_motion", "10 s 1080p, groups of 250", 6),
    ("cvidtr_s_8x8", "10 s 340p, groups of 12", 1),
)
PIECE_S = 10


def cost(cpu_s_per_minute: float, price: float) -> float:
    """Dollars for 1,000 minutes of video that take so many CPU seconds each, at `price` for an hour of a vCPU."""
    return MINUTES * cpu_s_per_minute / 3600 * price


def table(cells: list[dict[str, Any]], price: float) -> str:
    """Markdown: what was measured, then what is listed."""
    lines = [
        f"| | CPU seconds a minute of video | 1,000 minutes, at ${price:g} for a vCPU-hour |",
        "|---|---|---|",
        *(
            f"| `{cell['model']}`, {cell['video']} | {cell['cpu_s_per_minute']:.2f} | "
            f"${cost(cell['cpu_s_per_minute'], price):.3g} |"
            for cell in cells
        ),
        *(f"| {who} (list price) | - | {_range(*prices)} |" for who, prices in LISTED.items()),
    ]
    return "\n".join(lines)


def sentence(cells: list[dict[str, Any]], price: float) -> str:
    """The first cell and the lists, in words."""
    first = cells[0]
    others = "; ".join(f"{who}: {_range(*prices)}" for who, prices in LISTED.items())
    return f"${cost(first['cpu_s_per_minute'], price):.3g} of cores at ${price:g} for a vCPU-hour ({others})"


def _range(least: float, most: float) -> str:
    return f"${least:g}" if least == most else f"${least:g} to ${most:g}"


def measured(folder: Path, model: str, kind: str, copies: int, rounds: int) -> dict[str, Any]:
    """The median CPU seconds of all processes for a minute of this video."""
    piece = video(folder, kind, True)
    path = repeated(piece, folder / f"{copies} x {piece.name}", copies)
    content, options = path.read_bytes(), {"windows": "all", "attention": "none", "model": model}
    served = model_of(model, folder / f"{model} for {kind}")
    seconds = []
    with (
        program(folder / f"{model}, {kind}", served) as running,
        httpx.Client(base_url=running.url, timeout=600) as client,
    ):
        meter = Meter({"program": parts(running)["program"]})
        for _ in range(1 + rounds):
            meter.mark()
            client.post("/v1/classify", files={"file": content}, params=options).raise_for_status()
            meter.mark()
            seconds.append(meter.usage().cpu_s["program"] * 60 / (copies * PIECE_S))
    # The first one warms what is not warm yet.
    del seconds[0]
    return {"model": model, "video": kind, "seconds": copies * PIECE_S, "cpu_s_per_minute": statistics.median(seconds)}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=PRICE, help="dollars for an hour of a vCPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="the bundled model with small video only")
    parser.add_argument("--record", action="store_true", help="write what the documentation shows")
    parser.add_argument("--table", action="store_true", help="print what was recorded, and measure nothing")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(RECORDED.read_text())["figures"]["cells"], arguments.price))
        return
    began = record.machine()
    with tempfile.TemporaryDirectory(prefix="vidtr-bench-") as folder:
        chosen = CELLS[:1] if arguments.small else CELLS
        cells = [measured(Path(folder), *cell, arguments.rounds) for cell in chosen]
    path = RECORDED if arguments.record else arguments.json
    record.write("cost", {"cells": cells, "price": arguments.price}, began=began, ratios={}, path=path)
    print(table(cells, arguments.price))


if __name__ == "__main__":
    main()
