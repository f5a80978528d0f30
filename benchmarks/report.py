"""One HTML file from the JSON files of the benchmarks: ratios against their targets, plots, and where they come from.

python -m benchmarks.report [--results FOLDER] [--html FILE]
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.common.record import RESULTS

# What is aimed at: a pattern of the ratio's name, and the least value.
TARGETS = (
    (r"queue over plain SET and GET, .*", 0.6),
    (r"two workers over one", 1.6),
    (r"mean batch over maximum at saturation", 0.9),
    (r"memory of .* at first over at last", 0.95),
    (r"cvidtr_s_8x8, torchscript: service over .*", 0.95),
    (r"cvidtr_s_8x8, triton: service over alone", 0.95),
    (r"cvidtr_s_8x8, .*: efficiency", 0.95),
    (r"camera_motion, .*: efficiency", 0.80),
    (r".*: untuned over best tuned", 0.90),
    (r".*, (service|plain): (capacity|p99)", 0.97),
)
_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:70em}td,th{padding:.2em .6em;text-align:left}"
    "td.n{text-align:right}.short{color:#b00020;font-weight:600}img{display:block;max-width:100%}"
)


def target(ratio: str) -> float | None:
    """What the ratio of that name is to reach; None where nothing was set."""
    return next((least for pattern, least in TARGETS if re.fullmatch(pattern, ratio)), None)


def picture(figure: Figure) -> str:
    """A figure as an HTML image that is part of the page."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return f'<img src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}" alt="">'


def axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    """An empty plot."""
    figure = Figure(figsize=(7, 3.4))
    plot = figure.subplots()
    plot.set_title(title)
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    plot.grid(alpha=0.3)
    return figure, plot


def plots(record: dict[str, Any]) -> Iterable[str]:
    """The plots of one record, by what its figures hold."""
    figures = record["figures"]
    if record["benchmark"] == "queue_throughput":
        yield from _queue_plots(figures)
    if sweep := figures.get("sweep_clips_per_s"):
        yield _bars("Triton alone: clips in a request x requests in flight", "clips/s", {"alone": sweep})
    if sweep := figures.get("sweep_videos_per_s"):
        yield _bars("the same program with other settings", "videos/s", {"program": sweep})
    if record["benchmark"].startswith("peers"):
        rows = {label: found for label, found in figures.items() if "videos_per_s" in found}
        medians = {
            who: {label: sorted(f["videos_per_s"][who])[len(f["videos_per_s"][who]) // 2] for label, f in rows.items()}
            for who in ("ours", "peer")
        }
        yield _bars("capacity", "videos/s", medians)
        timed = {label: found for label, found in rows.items() if "latency_ms" in found}
        if timed:
            p99 = {who: {label: f["latency_ms"][who]["p99"] for label, f in timed.items()} for who in ("ours", "peer")}
            yield _bars("p99 at 70 % of the peer's capacity", "ms", p99)


def _queue_plots(figures: dict[str, Any]) -> Iterable[str]:
    if rows := figures.get("workers"):
        figure, plot = axes("workers with a backend of fixed time", "worker processes", "clips/s")
        numbers = [row["workers"] for row in rows]
        plot.plot(numbers, [row["clips_per_s"] for row in rows], "o-", label="measured")
        plot.plot(numbers, [row["backend_bound_per_s"] for row in rows], "--", label="the backends alone")
        plot.legend()
        yield picture(figure)
    if memory := figures.get("memory"):
        figure, plot = axes("memory", "samples, evenly spread over the clips", "MiB")
        for part, values in memory["bytes"].items():
            plot.plot([value / 2**20 for value in values], label=part)
        plot.set_ylim(bottom=0)
        plot.legend()
        yield picture(figure)


def _bars(title: str, unit: str, series: dict[str, dict[str, float]]) -> str:
    figure, plot = axes(title, "", unit)
    labels = list(next(iter(series.values())))
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = [place + number * width for place in range(len(labels))]
        plot.bar(places, [values[label] for label in labels], width, label=name)
    plot.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    plot.legend()
    return picture(figure)


def section(record: dict[str, Any]) -> str:
    """One benchmark."""
    rows = []
    for name, value in record["ratios"].items():
        least = target(name)
        short = least is not None and value < least
        mark = ' class="short"' if short else ""
        wanted = "" if least is None else f"&ge; {least:g}"
        rows.append(f'<tr{mark}><td>{html.escape(name)}</td><td class="n">{value:.3f}</td><td>{wanted}</td></tr>')
    machine = record["machine"]
    disturbed = f", disturbed by other work (load {machine['load_average']})" if machine["disturbed"] else ""
    where = (
        f"{record['at']}, commit {record['commit'][:12]}{'+' if record['commit'].endswith('+') else ''}, "
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB{disturbed}; "
        + ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    )
    head = "<tr><th>ratio</th><th>measured</th><th>target</th></tr>"
    pictures = "".join(plots(record))
    details = html.escape(json.dumps(record["figures"], indent=1))
    return (
        f"<h2>{html.escape(record['benchmark'])}</h2><p>{html.escape(where)}</p>"
        f"<table>{head}{''.join(rows)}</table>{pictures}"
        f"<details><summary>figures</summary><pre>{details}</pre></details>"
    )


def page(records: list[dict[str, Any]]) -> str:
    """The whole report."""
    body = "".join(map(section, records)) or "<p>No results.</p>"
    head = f"<!doctype html><meta charset=utf-8><title>Benchmarks</title><style>{_STYLE}</style>"
    return f"{head}<h1>Benchmarks</h1>{body}"


def load(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder; files of benchmarks that write none are left out."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [one for one in found if isinstance(one, dict) and "ratios" in one and "commit" in one]


def main() -> None:
    """Read, render, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--html", type=Path, default=RESULTS / "report.html")
    arguments = parser.parse_args()
    mpl.use("agg")
    arguments.html.write_text(page(load(arguments.results)))
    print(f"wrote {arguments.html}")


if __name__ == "__main__":
    main()
