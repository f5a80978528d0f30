"""How good answers to real windows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torchmetrics.functional.classification import binary_calibration_error

from service.evaluation.labeled_windows import Answer, LabeledWindow
from service.training.intervals import Share, shown, weighted_share, wilson

SEVERAL = frozenset({"mixed", "hand"})
"""Truths of windows in which something moves, but for which no single label is right."""
CONFIDENT = 0.9

_WORDS = {"stands_out": "a frame stands out: windows"}

Said = tuple[LabeledWindow, Answer]


def window_figures(
    windows: Sequence[LabeledWindow], answers: Sequence[Answer], labels: Sequence[str]
) -> dict[str, Any]:
    """Figures of one row of answers, ready for JSON.

    `clean` are the windows whose truth is one of `labels`. A label counts as wrong where the truth is another one;
    saying nothing, or a word that is no label, as wrong too, but not against any precision.
    """
    said = list(zip(windows, answers, strict=True))
    clean = [pair for pair in said if pair[0].truth in labels]
    several = [pair for pair in said if pair[0].truth in SEVERAL]
    figures: dict[str, Any] = {
        "accuracy": _share(_right, clean),
        "weighted": weighted_share([_right(pair) for pair in clean], [window.weight for window, _ in clean]),
        "slow": _share(_right, [pair for pair in clean if pair[0].slow]),
        "recall": {
            label: _share(_right, [pair for pair in clean if pair[0].truth == label]) for label in _found(clean, labels)
        },
        "precision": {
            label: _share(_right, [pair for pair in clean if pair[1].label == label])
            for label in labels
            if any(answer.label == label for _, answer in clean)
        },
        "abstained": _share(lambda pair: pair[1].label not in labels, clean),
        "several": {
            "right_or_abstained": _share(lambda p: p[1].label not in labels or p[1].label in p[0].components, several),
            "abstained": _share(lambda pair: pair[1].label not in labels, several),
        },
        "called": {
            truth: dict(Counter(answer.label or "nothing" for _, answer in rows).most_common())
            for truth, rows in _by_truth(said, labels).items()
        },
    }
    return figures | _standing_out(clean, labels) | _calibration(clean) | _cost(answers)


def _right(pair: Said) -> bool:
    return pair[1].label == pair[0].truth


def _share(holds: Callable[[Said], bool], pairs: Sequence[Said]) -> Share:
    return wilson(sum(map(holds, pairs)), len(pairs))


def _found(clean: Sequence[Said], labels: Sequence[str]) -> list[str]:
    truths = {window.truth for window, _ in clean}
    return [label for label in labels if label in truths]


def _by_truth(said: Sequence[Said], labels: Sequence[str]) -> dict[str, list[Said]]:
    rows: dict[str, list[Said]] = {}
    for pair in said:
        if pair[0].truth not in labels:
            rows.setdefault(pair[0].truth, []).append(pair)
    return rows


def _standing_out(clean: Sequence[Said], labels: Sequence[str]) -> dict[str, dict[str, Share]]:
    """By truth, the share of windows of which a frame is named as the one that counted most."""
    attended = [pair for pair in clean if pair[1].stands_out is not None]
    by_truth = {label: [pair for pair in attended if pair[0].truth == label] for label in _found(attended, labels)}
    return {
        "stands_out": {label: _share(lambda pair: bool(pair[1].stands_out), rows) for label, rows in by_truth.items()}
    }


def _calibration(clean: Sequence[Said]) -> dict[str, Any]:
    scored = [(pair, pair[1].score) for pair in clean if pair[1].score is not None]
    if not scored:
        return {}
    scores = torch.tensor([score for _, score in scored])
    hits = torch.tensor([_right(pair) for pair, _ in scored])
    sure = [pair for pair, score in scored if score >= CONFIDENT]
    return {
        "ece": float(binary_calibration_error(scores, hits, n_bins=10)),
        "mean_confidence": float(scores.mean()),
        "confident": _share(_right, sure),
    }


def _cost(answers: Sequence[Answer]) -> dict[str, float]:
    times = [answer.cpu_s for answer in answers if answer.cpu_s is not None]
    return {"cpu_s": sum(times) / len(times)} if times else {}


def window_rows(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A table of all methods: its head, then a row for each figure."""
    named = {
        kind: dict.fromkeys(label for figures in methods.values() for label in figures.get(kind, ()))
        for kind in ("recall", "precision", "stands_out")
    }
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("right, of clean windows", ("accuracy",)),
        ("the same, weighted", ("weighted",)),
        ("slow motions", ("slow",)),
        ("nothing said of clean windows", ("abstained",)),
        (f"right where the score is {CONFIDENT} or more", ("confident",)),
        ("calibration error (ECE)", ("ece",)),
        ("mixed and hand: a right part, or nothing said", ("several", "right_or_abstained")),
        *(
            (f"{_WORDS.get(kind, kind)} of {label}", (kind, label))
            for kind, labels in named.items()
            for label in labels
        ),
        ("CPU seconds a window", ("cpu_s",)),
    ]
    return [["figure", *methods], *([what, *(cell(f, way) for f in methods.values())] for what, way in ways)]


def cell(figures: Mapping[str, Any], way: Sequence[str], digits: int = 4) -> str:
    """The figure at the end of a way of names, as a table shows it; a dash where there is none."""
    value: Any = figures
    for name in way:
        value = value.get(name)
        if value is None:
            return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else shown(value)
