"""`vidtr evaluate --faithfulness`: how far a model's attention says what labels rest on, and where that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from service.contracts import Faithfulness
from service.evidence import EXACT_FRAMES

if TYPE_CHECKING:
    from service.evaluation.candidates import Candidate
    from service.evaluation.faithfulness import Comparison
    from service.video.config import VideoLimits

OnProgress = Callable[[str, int, int], None]


def comparable(candidate: Candidate) -> None:
    """Raises BadParameter where a model's attention cannot be compared with Shapley values."""
    if not candidate.attention:
        what = f"it compares attention, and {candidate.name} gives none"
        raise typer.BadParameter(what, param_hint="--faithfulness")
    if candidate.clip.frames > EXACT_FRAMES:
        what = f"it compares clips of at most {EXACT_FRAMES} frames, not of {candidate.clip.frames}"
        raise typer.BadParameter(what, param_hint="--faithfulness")


def evaluate_faithfulness(
    candidate: Candidate,
    videos: Path,
    count: int,
    limits: VideoLimits,
    out: Path | None,
    model: Path | None,
    on_progress: OnProgress,
) -> None:
    """Measure on windows of the videos, print, write `faithfulness.json` into `out`, and keep it in `model`'s folder.

    Raises BadParameter where nothing can be measured.
    """
    import torch

    from service.evaluation.faithfulness import compare
    from service.evaluation.video_clips import video_clips

    comparable(candidate)
    torch.set_num_threads(1)
    try:
        measured = compare(candidate, video_clips(videos, candidate.clip, limits), count, on_progress)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--videos") from error
    found = measured.figures("videos", candidate.labels)
    figures = shown_faithfulness(measured, found)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "faithfulness.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value")
    for name, value in figures.items():
        if not isinstance(value, list):
            table.add_row(name, str(value))
    needs = Table("first label", "clips", "score", "still", "reversed", "shuffled")
    for need in found.needs_time if found else ():
        shares = (need.score, need.still, need.reversed, need.shuffled)
        needs.add_row(need.label, str(need.clips), *(f"{share:.3f}" for share in shares))
    console = Console()
    console.print(table)
    console.print(needs)
    kept(candidate, found, model)


def shown_faithfulness(measured: Comparison, found: Faithfulness | None) -> dict[str, Any]:
    """The figures as JSON; the numbers of clips alone where too few were measured."""
    if found is None:
        return {"clips": len(measured.correlations), "seen": measured.seen}
    return found.model_dump(mode="json")


def kept(candidate: Candidate, found: Faithfulness | None, model: Path | None) -> None:
    """Keep what was found in the configuration of the `model` whose folder is given; nothing without one.

    Raises BadParameter where there is nothing to keep, or no room for it.
    """
    from service.model.repository_entry import keep_faithfulness

    if model is None:
        return
    if found is None or candidate.weights_sha256 is None:
        what = "fewer than 2 clips have a first label that rests on motion: nothing was measured"
        raise typer.BadParameter(what, param_hint="--write")
    try:
        path = keep_faithfulness(model, candidate.weights_sha256, found)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--write") from error
    Console().print(f"wrote {path}", highlight=False, soft_wrap=True)
