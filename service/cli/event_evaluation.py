"""`vidtr evaluate --long`: events on generated long videos, beside merged windows, and rules that suit the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from service.evaluation.candidates import Candidate
from service.evaluation.event_accuracy import accuracy, calibrated, judge_long_videos
from service.training.config import GeneratedData
from service.training.motion_source import held_out_bank
from service.training.trained_run import write_events
from service.video.config import VideoLimits

SECONDS = 600.0
_TEXTURE_SIDE = 96


def evaluate_events(
    candidate: Candidate,
    data: GeneratedData,
    videos: int,
    limits: VideoLimits,
    out: Path,
    run: Path | None,
    tell: Callable[[str, int, int], None],
) -> None:
    """Write `events_figures.json` to `out` and print it; calibrate the rules of a `run`, for its next export.

    Rules are chosen on other videos than those that the figures are of. Raises BadParameter for a model without
    thresholds.
    """
    if not candidate.thresholds:
        raise typer.BadParameter("events need a model with thresholds", param_hint="TARGET")
    bank = held_out_bank(data, _TEXTURE_SIDE, 0)
    judged = judge_long_videos(candidate, bank, videos, SECONDS, limits, 0, tell)
    found = accuracy(judged)
    if run is not None:
        others = judge_long_videos(candidate, bank, videos, SECONDS, limits, 1, tell)
        write_events(run, calibrated(candidate, others, candidate.events))
    out.mkdir(parents=True, exist_ok=True)
    (out / "events_figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", *found)
    for name in found["events"]:
        table.add_row(name, *(f"{figures[name]:.3f}" for figures in found.values()))
    Console().print(table)
