"""From which score on a label holds: chosen so that a label above it is seldom wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

FILE = "thresholds.json"
"""In the folder of a run: the threshold of each label."""
LOWEST, HIGHEST = 0.1, 0.95


def precise_thresholds(scores: Tensor, held: Tensor, precision: float) -> list[float]:
    """For each of K labels the lowest score from which on it is right in the share `precision` of the cases.

    `scores` `(N, K)` from 0 to 1, `held` `(N, K)` from 0 (wrong) to 1 (right). Where no score is that precise, the
    most precise one that still finds a tenth of the right cases; 0.5 for a label that never holds.
    """
    return [_threshold(scores[:, k], held[:, k], precision) for k in range(scores.size(1))]


def _threshold(scores: Tensor, held: Tensor, precision: float) -> float:
    order = scores.argsort(descending=True)
    ranked, right = scores[order], held[order].double()
    if float(right.sum()) == 0:
        return 0.5
    said = torch.arange(1, len(ranked) + 1)
    share = right.cumsum(0) / said
    enough = right.cumsum(0) >= 0.1 * right.sum()
    # Equal scores stand or fall together.
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    usable = enough & last
    good = (usable & (share >= precision)).nonzero().flatten()
    best = int(good[-1]) if len(good) else int(torch.where(usable, share, -1.0).argmax())
    return float(ranked[best].clamp(LOWEST, HIGHEST))


def write_thresholds(run: Path, labels: Sequence[str], thresholds: Sequence[float]) -> None:
    """Keep the thresholds of a run in its folder."""
    named = {label: round(value, 4) for label, value in zip(labels, thresholds, strict=True)}
    (run / FILE).write_text(json.dumps(named, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_thresholds(run: Path, labels: Sequence[str]) -> tuple[float, ...]:
    """The thresholds of a run, in the order of its labels; none where it was not evaluated yet.

    Raises ValueError where a label has none.
    """
    if not (run / FILE).is_file():
        return ()
    named = json.loads((run / FILE).read_text(encoding="utf-8"))
    if missing := [label for label in labels if label not in named]:
        raise ValueError(f"{FILE} of {run.name} has no threshold of {', '.join(missing)}")
    return tuple(float(named[label]) for label in labels)
