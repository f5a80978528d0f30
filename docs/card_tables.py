"""The tables of the page on the bundled model, out of what `vidtr evaluate` measured of it.

    python -m docs.card_tables [--windows windows.json] [--assessment figures.json]

The measurements are kept in `camera_motion.json`; without arguments the tables are written again from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.figure_data import shipped_model
from service.contracts import Faithfulness, ModelSpec
from service.evaluation.window_figures import CONFIDENT, cell
from service.training.intervals import shown

DOCS = Path(__file__).parent
PAGE, KEPT = DOCS / "camera_motion.md", DOCS / "camera_motion.json"
MODEL, TRACKER, CUTTER = "camera_motion", "classical", "pyscenedetect"
DIGITS = 3
SETS = {"generated": "generated, held-out pictures", "footage": "virtual camera over real videos"}

Figures = Mapping[str, Any]


def keep(spec: ModelSpec, windows: Figures | None, assessment: Figures | None, kept: Figures) -> dict[str, Any]:
    """The measurements of the bundled model: new ones instead of those in `kept`, if those are of the same weights.

    Raises ValueError where new ones are of other weights, or lack the tracker that the model is to be compared with.
    """
    found = dict(kept) if kept.get("weights_sha256") == spec.weights_sha256 else {}
    for name, given in (("windows", windows), ("assessment", assessment)):
        if given is None:
            continue
        measured = given[MODEL] if name == "windows" else given
        if measured.get("weights_sha256") != spec.weights_sha256:
            raise ValueError(
                f"{name} are of weights {measured.get('weights_sha256')}, bundled are {spec.weights_sha256}"
            )
        if name == "windows" and TRACKER not in given:
            raise ValueError(f"windows were measured without --beside {TRACKER}.csv")
        found[name] = given
    return {"weights_sha256": spec.weights_sha256, **found}


def tables(spec: ModelSpec, kept: Figures) -> dict[str, str]:
    """By the name of its place on the page, each table in Markdown of which there are measurements."""
    found: dict[str, str] = {}
    if "windows" in kept:
        found |= {"real": _real(kept["windows"]), "labels": _labels(spec, kept["windows"])}
    if "assessment" in kept:
        found["paths"] = _paths(kept["assessment"])
    if spec.faithfulness is not None:
        found["faithfulness"] = _faithfulness(spec.faithfulness)
    return found


def written(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part in its place, between two comments.

    Raises ValueError where a place is missing.
    """
    for name, text in parts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
            raise ValueError(f"{PAGE.name} has no single place for {name}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def _real(windows: Figures) -> str:
    rows = {
        "right, of windows with a single right label": ("accuracy",),
        "the same, weighted": ("weighted",),
        "of slow motions": ("slow",),
        "says nothing of windows with a single right label": ("abstained",),
        f"right where the score is {CONFIDENT} or more": ("confident",),
        "calibration error (ECE)": ("ece",),
        "several motions or a drifting hand: a right part, or nothing": ("several", "right_or_abstained"),
        "CPU seconds a window, without decoding": ("cpu_s",),
    }
    head = f"| | `{MODEL}` | classical tracker |\n|---|---|---|\n"
    return head + "\n".join(
        f"| {what} | {cell(windows[MODEL], way, DIGITS)} | {cell(windows[TRACKER], way, DIGITS)} |"
        for what, way in rows.items()
    )


def _faithfulness(measured: Faithfulness) -> str:
    rows = []
    for need in measured.needs_time:
        shares = (need.score, need.still, need.reversed, need.shuffled)
        rows.append(f"| `{need.label}` | {need.clips} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return (
        f"{measured.in_words} Rank correlation with Shapley values {measured.rank_correlation:.2f} "
        f"± {measured.rank_correlation_error:.2f}; the same frame first in {measured.same_top_frame:.0%}; "
        f"stability under noise {measured.stability:.2f}.\n\n"
        "| first label | clips | score | still | reversed | shuffled |\n" + "|---" * 6 + "|\n" + "\n".join(rows)
    )


def _labels(spec: ModelSpec, windows: Figures) -> str:
    columns = [(windows[method], kind) for method in (MODEL, TRACKER) for kind in ("recall", "precision")]
    thresholds = dict(zip(spec.labels, spec.thresholds, strict=True)) if spec.thresholds else {}
    rows = [
        f"| `{label}` | {f'{thresholds[label]:.2f}' if thresholds else '-'} | "
        + " | ".join(_counted(figures[kind].get(label)) for figures, kind in columns)
        + " |"
        for label in spec.labels
    ]
    head = f"| label | threshold | `{MODEL}`: recall | precision | tracker: recall | precision |\n" + "|---" * 6 + "|\n"
    cutter = windows.get(CUTTER)
    beside = "" if cutter is None else (
        f"\n\nPySceneDetect's AdaptiveDetector, for cuts alone: recall {_counted(cutter['recall'].get('cut'))}, "
        f"precision {_counted(cutter['precision'].get('cut'))}."
    )  # fmt: skip
    return head + "\n".join(rows) + beside


def _paths(assessment: Figures) -> str:
    present = [name for name in SETS if name in assessment]
    ways: dict[str, tuple[str, ...]] = {
        "top-1": ("top1",),
        **{f"`{label}`": ("classes", label) for label in assessment["generated"]["classes"]},
        "calibration error (ECE)": ("ece",),
        "largest `temporal_attention` is beside the cut (chance 25 %)": ("cuts", "all"),
        "one frame repeated is `static`": ("temporal_sanity", "repeated_is_static"),
        "shuffled frames keep their class": ("temporal_sanity", "shuffled_keeps_class"),
        **{
            f"reversed {name.rpartition('_')[2]} gets the opposite class": ("temporal_sanity", name)
            for name in assessment["generated"]["temporal_sanity"]
            if name.startswith("reversed_swaps_")
        },
    }
    head = "| | " + " | ".join(SETS[name] for name in present) + " |\n|---" + "|---" * len(present) + "|\n"
    rows = [
        f"| {what} | " + " | ".join(cell(assessment[name], way, DIGITS) for name in present) + " |"
        for what, way in ways.items()
    ]
    if "unaltered" in assessment:
        blanks = "| " * (len(present) - 1)
        rows.append(f"| `static` on unaltered clips {blanks}| {shown(assessment['unaltered']['static'])} |")
    return head + "\n".join(rows)


def _counted(share: Figures | None) -> str:
    return "-" if share is None or not share["count"] else f"{share['hits']} of {share['count']}"


def main() -> None:
    """Keep the measurements given, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=Path, help="windows.json of `vidtr evaluate --truth`")
    parser.add_argument("--assessment", type=Path, help="figures.json of `vidtr evaluate --pictures`")
    given = parser.parse_args()
    spec = shipped_model().spec
    windows, assessment, before = (
        json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else None
        for path in (given.windows, given.assessment, KEPT)
    )
    kept = keep(spec, windows, assessment, before or {})
    page = written(PAGE.read_text(encoding="utf-8"), tables(spec, kept))
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
