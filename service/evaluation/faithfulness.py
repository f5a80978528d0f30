"""How far a model's `temporal_attention` says what each frame contributes: beside Shapley values and random orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.contracts import Faithfulness
from service.evaluation.candidates import Candidate
from service.evaluation.time_needs import DIGITS, TimeNeeds, altered
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
NOISES = 4
NOISE = 2.0
"""Standard deviation of the noise that attention has to bear, of 255: no eye sees it."""

OnProgress = Callable[[str, int, int], None]


@dataclass
class Comparison:
    """What was measured, clip by clip."""

    seen: int = 0
    correlations: list[float] = field(default_factory=list)
    same_top: list[bool] = field(default_factory=list)
    deletions: list[tuple[float, float, float]] = field(default_factory=list)
    """by attention, by Shapley values, by random orders"""
    insertions: list[tuple[float, float, float]] = field(default_factory=list)
    stabilities: list[float] = field(default_factory=list)
    needs: TimeNeeds = field(default_factory=TimeNeeds)

    def figures(self, source: Literal["videos", "generated"], labels: tuple[str, ...]) -> Faithfulness | None:
        """Means over the clips, which come from `source`; None of fewer than 2 clips, which have no error."""
        count = len(self.correlations)
        if count < 2:
            return None
        deletion_gap, deletion_error = _gap(self.deletions)
        insertion_gap, insertion_error = _gap(self.insertions)
        measured = {
            "deletion_gap": deletion_gap,
            "deletion_gap_error": deletion_error,
            "insertion_gap": insertion_gap,
            "insertion_gap_error": insertion_error,
            "rank_correlation": float(np.mean(self.correlations)),
            "rank_correlation_error": 1.96 * float(np.std(self.correlations, ddof=1)) / count**0.5,
            "same_top_frame": float(np.mean(self.same_top)),
            "stability": float(np.mean(self.stabilities)),
        }
        return Faithfulness(
            source=source,
            seen=self.seen,
            clips=count,
            needs_time=self.needs.means(labels),
            **{name: round(value, DIGITS) for name, value in measured.items()},
        )


def compare(
    candidate: Candidate, clips: Iterable[Clip], count: int, on_progress: OnProgress = lambda *_: None
) -> Comparison:
    """Of the first `count` clips uint8 `(T, H, W, 3)` whose first label rests on motion.

    `on_progress` is called with what is done, how many of those clips there are, and `count`.

    Raises ValueError for a model whose clips have too many frames for all subsets.
    """
    if candidate.clip.frames > EXACT_FRAMES:
        raise ValueError(f"all subsets are scored of at most {EXACT_FRAMES} frames, not of {candidate.clip.frames}")
    found = Comparison()
    random = np.random.default_rng(0)
    aside = [candidate.labels.index(label) for label in candidate.qualifiers]
    for clip in clips:
        if len(found.deletions) == count:
            break
        on_progress("leaving frames out", len(found.deletions), count)
        found.seen += 1
        output = candidate.score(torch.from_numpy(altered(clip, random)))
        logits = output.logits.clone()
        logits[:, aside] = -torch.inf
        label = int(logits[0].argmax())
        scores = _probabilities(candidate, logits)[:, label]
        found.needs.add(candidate.labels[label], scores)
        if scores[0] - scores[1] < MOVES:
            continue
        value = _looked_up(_scored(candidate, clip, label))
        attention = output.temporal_attention[0].double().numpy()
        _add(found, value, evidence(value, len(clip)).contributions, attention, random)
        found.stabilities.append(_stability(candidate, clip, attention, random))
    return found


def _probabilities(candidate: Candidate, logits: Tensor) -> Values:
    scores = logits.sigmoid() if candidate.activation == "sigmoid" else logits.softmax(1)
    return np.asarray(scores.double().numpy())


def _scored(candidate: Candidate, clip: Clip, label: int) -> Values:
    """Scores `(2^T,)` of a label for all subsets of a clip's frames."""
    rows = [
        _probabilities(candidate, candidate.score(torch.from_numpy(variants(clip, part))).logits)[:, label]
        for part in np.array_split(subsets(len(clip)), max(1, (1 << len(clip)) // BATCH))
    ]
    return np.concatenate(rows)


def _looked_up(values: Values) -> Value:
    """The same scores by set."""

    def value(kept: Kept) -> Values:
        return values[kept @ (1 << np.arange(kept.shape[1]))]

    return value


def _add(
    found: Comparison,
    value: Value,
    contributions: Values,
    attention: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    found.correlations.append(_agreed(contributions, attention))
    found.same_top.append(bool(contributions.argmax() == attention.argmax()))
    orders = [random.permutation(len(attention)) for _ in range(RANDOM_ORDERS)]
    for measured, into in ((deletion, found.deletions), (insertion, found.insertions)):
        chance = float(np.mean([measured(value, order) for order in orders]))
        into.append((measured(value, np.argsort(-attention)), measured(value, np.argsort(-contributions)), chance))


def _stability(candidate: Candidate, clip: Clip, attention: NDArray[np.float64], random: np.random.Generator) -> float:
    """Mean rank correlation of the attention to a clip with that to the same clip with noise, drawn a few times."""
    noisy = clip + random.normal(0.0, NOISE, (NOISES, *clip.shape))
    clips = torch.from_numpy(noisy.round().clip(0, 255).astype(np.uint8))
    return float(np.mean([_agreed(attention, other) for other in candidate.score(clips).temporal_attention.numpy()]))


def _agreed(one: Values, other: Values) -> float:
    correlation = rank_correlation(one, other)
    return 0.0 if correlation is None else correlation


def _gap(measured: list[tuple[float, float, float]]) -> tuple[float, float]:
    """What attention reaches of what Shapley values do, and half the width of the interval of 95 % of that ratio."""
    attention, shapley, chance = np.array(measured).T
    reached, attainable = chance - attention, chance - shapley
    gap = reached.mean() / attainable.mean()
    spread = (reached - gap * attainable).std(ddof=1) / (abs(attainable.mean()) * len(reached) ** 0.5)
    return float(gap), float(1.96 * spread)
