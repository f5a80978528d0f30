"""How far a run's `temporal_attention` says what each frame contributes: beside exact Shapley values and random orders.

    python -m benchmarks.faithfulness RUN [--clips 40] [--json FILE]

Held-out clips of the run whose first label is not `static` and rests on motion: its score is 0.2 above that of a still
clip. Deleting frames in an order, the mean score should fall fast: 100 % of the gap is what the order of Shapley values
reaches, 0 % what random orders do. The rank correlation is Spearman's, with 95 % of its mean's confidence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import record
from service.evidence import Clip, Kept, Value, Values, deletion, evidence, rank_correlation, subsets, variants
from service.model.factory import Network
from service.model.preprocess import Normalize
from service.settings import Settings
from service.training.data_source import make_source
from service.training.trained_run import TrainedRun, read_run
from service.video.config import VideoLimits

MOVES = 0.2
RANDOM_ORDERS = 20
BATCH = 64


@dataclass
class Faithfulness:
    """What was measured, clip by clip."""

    correlations: list[float] = field(default_factory=list)
    same_top: list[bool] = field(default_factory=list)
    deletions: list[tuple[float, float, float]] = field(default_factory=list)
    """by attention, by Shapley values, by random orders"""

    def figures(self) -> dict[str, Any]:
        """Means over the clips."""
        attention, shapley, chance = np.array(self.deletions).mean(0)
        correlation = np.array(self.correlations)
        return {
            "clips": len(correlation),
            "rank_correlation": float(correlation.mean()),
            "rank_correlation_error": float(1.96 * correlation.std(ddof=1) / np.sqrt(len(correlation))),
            "same_top_frame": float(np.mean(self.same_top)),
            "deletion_gap": float((chance - attention) / (chance - shapley)),
        }


def scored(network: Network, clip: Clip, label: int, *, sigmoid: bool) -> Values:
    """Scores `(2^T,)` of a label for all subsets of a clip's frames."""
    rows = []
    for part in np.array_split(subsets(len(clip)), max(1, (1 << len(clip)) // BATCH)):
        logits = network(Normalize()(torch.from_numpy(variants(clip, part)))).logits
        rows.append((logits.sigmoid() if sigmoid else logits.softmax(1))[:, label])
    return torch.cat(rows).double().numpy()


def looked_up(values: Values) -> Value:
    """The same scores by set."""

    def value(kept: Kept) -> Values:
        return values[kept @ (1 << np.arange(kept.shape[1]))]

    return value


def clips(run: TrainedRun) -> Iterator[Clip]:
    """Held-out clips of a run, one after the other."""
    source = make_source(run.config, Settings().subset(VideoLimits), Path("clips"))
    for examples in source.held_out():
        yield from examples.clips.numpy()


@torch.inference_mode()
def measure(run: TrainedRun, count: int) -> Faithfulness:
    """The faithfulness of a run on its first `count` clips that move. Raises ValueError where there are none."""
    found = Faithfulness()
    random = np.random.default_rng(0)
    aside = [run.labels.index(label) for label in run.qualifiers]
    for clip in clips(run):
        output = run.network(Normalize()(torch.from_numpy(clip)[None]))
        output.logits[0, aside] = -torch.inf
        label = int(output.logits[0].argmax())
        if run.labels[label] == "static":
            continue
        value = looked_up(scored(run.network, clip, label, sigmoid=run.config.multi_label))
        facts = evidence(value, len(clip))
        if facts.score - facts.still_score < MOVES:
            continue
        attention = output.temporal_attention[0].double().numpy()
        _add(found, value, facts.contributions, attention, random)
        if len(found.deletions) == count:
            break
    if not found.deletions:
        raise ValueError("no held-out clip of this run has a label that rests on motion")
    return found


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
    chance = float(np.mean([deletion(value, order) for order in orders]))
    found.deletions.append(
        (deletion(value, np.argsort(-attention)), deletion(value, np.argsort(-contributions)), chance)
    )


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    figures = measure(read_run(arguments.run), arguments.clips).figures()
    for name, figure in figures.items():
        sys.stdout.write(f"{name}: {figure:.3f}\n")
    record.write("faithfulness", figures, began=began, ratios={}, path=arguments.json)


if __name__ == "__main__":
    main()
