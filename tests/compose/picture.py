"""Draws a dashboard: `python -m tests.compose.picture docs/dashboard.png`. It needs matplotlib and `prometheus`.

Grafana is not needed: the queries are those of the dashboard's file, asked of a real Prometheus that has scraped the
real service, the shipped model in a real Triton, while callers came and went and a part of what they sent was broken.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from service.local.redis import LocalRedis
from service.local.triton_process import LocalTriton
from service.settings import Settings
from tests.compose.observed import Observed, load_of_many, observed, small_clip
from tests.compose.tools import ROOT, tool
from tests.fixtures.servers import SHIPPED_REPOSITORY

CALLERS = ((1, 25.0), (6, 40.0), (2, 25.0))
UNITS = {"s": "seconds", "percentunit": "share", "reqps": "a second", "ops": "a second", "short": ""}


def draw(seen: Observed, name: str, started: float, path: Path) -> None:
    """Draw all panels of a dashboard from `started` until now."""
    file = ROOT / "docker" / "grafana" / "dashboards" / f"{name}.json"
    board = json.loads(file.read_text())
    rows = (len(board["panels"]) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(13, 2.9 * rows), squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, board["panels"], strict=False):
        _draw_panel(axis, panel, seen, started)
    figure.suptitle(f"{board['title']}: {', then '.join(f'{n} callers' if n > 1 else '1 caller' for n, _ in CALLERS)}")
    figure.savefig(path, dpi=80)


def _label(of: dict[str, str], name: re.Match[str]) -> str:
    return of.get(name[1], "")


def _draw_panel(axis: Any, panel: dict[str, Any], seen: Observed, started: float) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "10s")
        for found in seen.query_range(expression, started, time.time(), 1):
            legend = re.sub(r"{{(\w+)}}", functools.partial(_label, found["metric"]), target["legendFormat"])
            series[legend] = [(at, float(value)) for at, value in found["values"] if value != "NaN"]
    defaults = panel["fieldConfig"]["defaults"]
    times = sorted({at for points in series.values() for at, _ in points})
    if defaults["custom"]["stacking"]["mode"] == "normal" and series:
        rows = [[dict(points).get(at, 0.0) for at in times] for points in series.values()]
        axis.stackplot([at - started for at in times], rows, labels=list(series), alpha=0.7)
    else:
        for legend, points in series.items():
            axis.plot([at - started for at, _ in points], [value for _, value in points], label=legend)
    axis.set_title(panel["title"], fontsize=10, loc="left")
    axis.set_ylabel(UNITS.get(defaults["unit"], defaults["unit"]), fontsize=8)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    if series:
        axis.legend(fontsize=7, ncols=2, loc="upper left")


def main() -> None:
    """Run the service, load it, draw."""
    mpl.use("agg")
    path = Path(sys.argv[1])
    name = sys.argv[2] if len(sys.argv) > 2 else "service"
    with tempfile.TemporaryDirectory() as scratch, LocalRedis(Path(scratch) / "redis", persist=False) as redis:
        triton = LocalTriton(Settings().triton_dir, SHIPPED_REPOSITORY, log=Path(scratch) / "triton.log")
        model = str(Settings.model_fields["default_model"].default)
        with triton, observed(Path(scratch), tool("prometheus"), redis.url, triton, model) as seen:
            clip = small_clip(Path(scratch))
            started = time.time()
            for callers, seconds in CALLERS:
                load_of_many(seen.api, clip, callers, seconds)
            draw(seen, name, started, path)


if __name__ == "__main__":
    main()
