"""How far a model's `temporal_attention` says what each frame contributes: beside Shapley values and random orders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.evaluation.candidates import Candidate
from service.evidence import (
    EXACT_FRAMES,
    Clip,
    Kept,
    Value,
    Values,
    deletion,
    evidence,
    insertion,
    rank_correlation,
    subsets,
    variants,
)

MOVES = 0.2
"""How much the score of a clip must be above that of a still one: else no frame has anything to tell."""
RANDOM_ORDERS = 20
BATCH = 64


@dataclass
class Faithfulness:
    """What was measured, clip by clip."""

    correlations: list[float] = field(default_factory=list)
    same_top: list[bool] = field(default_factory=list)
    deletions: list[tuple[float, float, float]] = field(default_factory=list)
    """by attention, by Shapley values, by random orders"""
    insertions: list[tuple[float, float, float]] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Means over the clips. A gap is 1 where attention orders frames as well as Shapley values do, 0 as chance.

        Where no clip has a label that rests on motion there is nothing but their number, 0.
        """
        count = len(self.correlations)
        if not count:
            return {"clips": 0}
        correlation = np.array(self.correlations)
        error = float(1.96 * correlation.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
        return {
            "clips": count,
            "rank_correlation": float(correlation.mean()),
            "rank_correlation_error": error,
            "same_top_frame": float(np.mean(self.same_top)),
            "deletion_gap": _gap(self.deletions),
            "insertion_gap": _gap(self.insertions),
        }


def faithfulness(candidate: Candidate, clips: Iterable[Clip], count: int) -> Faithfulness:
    """Of the first `count` clips uint8 `(T, H, W, 3)` whose first label rests on motion.

    Raises ValueError for a model whose clips have too many frames for all subsets.
    """
    if candidate.clip.frames > EXACT_FRAMES:
        raise ValueError(f"all subsets are scored of at most {EXACT_FRAMES} frames, not of {candidate.clip.frames}")
    found = Faithfulness()
    random = np.random.default_rng(0)
    aside = [candidate.labels.index(label) for label in candidate.qualifiers]
    for clip in clips:
        output = candidate.score(torch.from_numpy(clip)[None])
        logits = output.logits[0].clone()
        logits[aside] = -torch.inf
        value = _looked_up(_scored(candidate, clip, int(logits.argmax())))
        facts = evidence(value, len(clip))
        if facts.score - facts.still_score < MOVES:
            continue
        _add(found, value, facts.contributions, output.temporal_attention[0].double().numpy(), random)
        if len(found.deletions) == count:
            break
    return found


def _scored(candidate: Candidate, clip: Clip, label: int) -> Values:
    """Scores `(2^T,)` of a label for all subsets of a clip's frames."""
    rows: list[Tensor] = []
    for part in np.array_split(subsets(len(clip)), max(1, (1 << len(clip)) // BATCH)):
        logits = candidate.score(torch.from_numpy(variants(clip, part))).logits
        rows.append((logits.sigmoid() if candidate.activation == "sigmoid" else logits.softmax(1))[:, label])
    return np.asarray(torch.cat(rows).double().numpy())


def _looked_up(values: Values) -> Value:
    """The same scores by set."""

    def value(kept: Kept) -> Values:
        return values[kept @ (1 << np.arange(kept.shape[1]))]

    return value


def _add(
    found: Faithfulness,
    value: Value,
    contributions: Values,
    attention: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    correlation = rank_correlation(contributions, attention)
    found.correlations.append(0.0 if correlation is None else correlation)
    found.same_top.append(bool(contributions.argmax() == attention.argmax()))
    orders = [random.permutation(len(attention)) for _ in range(RANDOM_ORDERS)]
    for measured, into in ((deletion, found.deletions), (insertion, found.insertions)):
        chance = float(np.mean([measured(value, order) for order in orders]))
        into.append((measured(value, np.argsort(-attention)), measured(value, np.argsort(-contributions)), chance))


def _gap(measured: list[tuple[float, float, float]]) -> float:
    attention, shapley, chance = np.array(measured).mean(0)
    return float((chance - attention) / (chance - shapley))
