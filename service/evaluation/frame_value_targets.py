"""Measure what frames are worth to a model, for another training to draw its attention there.

    python -m service.evaluation.frame_value_targets MODEL CONFIG OUT.pt [--clips 2000] [--pairs 12]

Of the clips that CONFIG trains on and MODEL, a folder of a model repository or of a run, says something that a still
clip does not: estimates of the Shapley values of its frames for the first label (`service.training.frame_values`), the
model's scores, and as clips of their own some of those with frames left out. Clips whose label does not rest on motion
are kept with their scores alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.evaluation.candidates import Candidate, of_repository, of_run, score_all
from service.evaluation.faithfulness import MOVES
from service.evidence import variants
from service.training.config import MovesData, is_run, read_config
from service.training.frame_values import drawn_sets, estimated_values
from service.training.moves_source import GeneratedMoves
from service.training.sources import Examples
from service.training.valued_clips import ValuedClips

_LEFT_OUT = 4
"""Of the clips with frames left out, how many of each clip are kept."""


def valued_clips(candidate: Candidate, batches: Iterable[Examples], count: int, pairs: int) -> ValuedClips:
    """The clips of `batches` until `count` of them have values, each from `2 T + 2 pairs + 2` scores.

    Raises ValueError for a model whose scores depend on each other.
    """
    if candidate.activation != "sigmoid":
        raise ValueError(f"scores must be independent of each other; {candidate.name} has {candidate.activation}")
    random = np.random.default_rng(0)
    aside = [candidate.labels.index(label) for label in candidate.qualifiers]
    kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    measured = 0
    for examples in batches:
        whole = _scores(candidate, examples.clips)
        first = whole.index_fill(1, torch.tensor(aside, dtype=torch.long), -1.0).argmax(1)
        still = _scores(candidate, _still(examples.clips))
        for row, label in enumerate(first.tolist()):
            cut, frames = examples.cut[row], examples.clips.size(1)
            values = torch.full((frames,), torch.nan)
            if whole[row, label] - still[row, label] >= MOVES:
                sets = drawn_sets(frames, pairs, random)
                clips = torch.from_numpy(variants(examples.clips[row].numpy(), sets))
                scores = _scores(candidate, clips)
                found = scores[:, label].double().numpy()
                ends = float(still[row, label]), float(whole[row, label])
                unknown = values
                values = torch.from_numpy(estimated_values(sets, found, *ends)).float()
                for part in random.choice(len(sets), _LEFT_OUT, replace=False).tolist():
                    kept.append((clips[part].clone(), scores[part], torch.tensor(-1), unknown))
                measured += 1
            kept.append((examples.clips[row], whole[row], cut, values))
        if measured >= count:
            break
    return ValuedClips(*(torch.stack(column) for column in zip(*kept, strict=True)))


def _scores(candidate: Candidate, clips: Tensor) -> Tensor:
    return score_all(candidate.score, clips).logits.sigmoid()


def _still(clips: Tensor) -> Tensor:
    frames = clips.size(1)
    return clips[:, [(frames - 1) // 2] * frames]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    candidate = of_run(given.model)[0] if is_run(given.model) else of_repository(given.model)
    config = read_config(given.config)
    if not isinstance(config.data, MovesData):
        raise SystemExit(f"{given.config} must have data of the kind camera_moves, not {config.data.kind}")
    network, run = config.network_config(2), config.run
    source = GeneratedMoves(
        config.data.model_copy(update={"valued_clips": None, "reuse": 1}),
        network.frames,
        network.height,
        network.height // network.patch,
        run.seed,
        run.clip_format,
        run.renderers,
    )
    size = source.grain
    batches = (source.batch(step, 0, size, size) for step in range(sys.maxsize))
    found = valued_clips(candidate, batches, given.clips, given.pairs)
    found.save(given.out)
    sys.stdout.write(f"{len(found.measured)} clips with values and {len(found.others)} others are in {given.out}\n")


if __name__ == "__main__":
    main()
