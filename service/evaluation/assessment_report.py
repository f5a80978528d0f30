"""The assessment of a camera-motion model as one HTML file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.evaluation.camera_motion import Assessment, Target
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.intervals import shown
from service.training.run_report import confusion_table, gallery, write_page

_TITLES = {"generated": "Generated clips of held-out pictures", "footage": "Real footage cropped along known paths"}
_ERRORS = 12


def write_motion_report(path: Path, title: str, found: Assessment) -> None:
    """Write the report. Pictures are inside the file, so that it can be moved."""
    parts = ["<h2>Targets</h2>", _targets(found.targets)]
    for name, tested in found.sets.items():
        figures = found.figures[name]
        parts += [
            f"<h2>{_TITLES[name]}</h2>",
            f"<p>Top-1 {shown(figures['top1'])}; calibration error {figures['ece']:.3f} at a mean confidence of "
            f"{figures['mean_confidence']:.3f}. Intervals are 95 %.",
            _shares("class", figures["classes"]),
            confusion_table(LABELS, tested.result.confusion),
        ]
        if "speeds" in figures:
            parts += ["<h3>By speed</h3>", _shares("motion", figures["speeds"])]
        parts += ["<h3>Reading time</h3>", _shares("check", figures["temporal_sanity"])]
        parts += ["<h3>Cuts</h3>", _cuts(figures["cuts"])]
        parts.append(gallery(LABELS, tested.result, list(tested.clips), _ERRORS))
    if "unaltered" in found.figures:
        figures = found.figures["unaltered"]
        called = ", ".join(f"{label} {count}" for label, count in figures["called"].items() if count)
        parts.append(
            f"<h2>Unaltered videos of still cameras</h2><p>static: {shown(figures['static'])} windows of "
            f"{figures['videos']} videos; called {called}."
        )
    write_page(path, title, parts)


def _targets(targets: Sequence[Target]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(t.what)}<td>{100 * t.value:.1f} %<td>{'at most' if t.at_most else 'at least'} "
        f"{100 * t.bound:.1f} %<td>{'met' if t.met else 'missed'}"
        for t in targets
    )
    return f"<table>{rows}</table>"


def _shares(what: str, shares: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{html.escape(name)}<td>{shown(share)}" for name, share in shares.items())
    return f"<table><tr><th>{what}<th>share (95 % interval){rows}</table>"


def _cuts(figures: Mapping[str, Any]) -> str:
    untrained = f"; untrained {shown(figures['untrained'])}" if "untrained" in figures else ""
    positions = {f"between slots {slot} and {slot + 1}": share for slot, share in enumerate(figures["positions"])}
    return (
        f"<p>Largest temporal attention beside the cut: {shown(figures['all'])}; chance "
        f"{100 * figures['chance']:.1f} %{untrained}."
        + _shares("cut", positions)
        + _shares("signal", figures["signals"])
    )
