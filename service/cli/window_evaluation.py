"""`vidtr evaluate --truth`: what a model says of real windows that people looked at, beside other answers."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from service.evaluation.candidates import Candidate
    from service.video.config import VideoLimits

OnProgress = Callable[[str, int, int], None]


def evaluate_windows(
    candidate: Candidate,
    truth: Path,
    videos: Path,
    beside: Sequence[Path],
    limits: VideoLimits,
    out: Path,
    on_progress: OnProgress,
) -> None:
    """Write `windows.json` and `windows.html` of the table `truth`, and print the same figures."""
    import torch

    from service.evaluation.labeled_windows import answer_windows, decode_windows, read_answers, read_windows
    from service.evaluation.window_figures import window_figures, window_rows
    from service.training.run_report import write_page

    torch.set_num_threads(1)
    try:
        windows = read_windows(truth)
        others = {path.stem: read_answers(path, windows) for path in beside}
        clips = decode_windows(windows, videos, candidate.clip, limits, on_progress)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--truth") from error
    methods = {candidate.name: answer_windows(candidate, clips, on_progress), **others}
    figures = {name: window_figures(windows, answers, candidate.labels) for name, answers in methods.items()}
    figures[candidate.name]["weights_sha256"] = candidate.weights_sha256
    out.mkdir(parents=True, exist_ok=True)
    (out / "windows.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    head, *rows = window_rows(figures)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    cells = "".join("<tr><th>" + "<td>".join(html.escape(cell) for cell in row) for row in rows)
    heads = "".join(f"<th>{html.escape(cell)}" for cell in head)
    write_page(
        out / "windows.html",
        f"{candidate.name} on {len(windows)} windows of {truth.name}",
        [f"<table><tr>{heads}{cells}</table>"],
    )
    Console().print(table)
