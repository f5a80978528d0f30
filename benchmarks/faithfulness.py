"""How far a run's `temporal_attention` says what each frame contributes: beside exact Shapley values and random orders.

    python -m benchmarks.faithfulness RUN [--clips 40] [--json FILE]

Held-out clips of the run whose first label rests on motion: its score is 0.2 above that of a still
clip. Deleting frames in an order, the mean score should fall fast: 100 % of the gap is what the order of Shapley values
reaches, 0 % what random orders do. The rank correlation is Spearman's, with 95 % of its mean's confidence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import record
from service.evaluation.candidates import of_run
from service.evaluation.faithfulness import compare
from service.evidence import Clip
from service.settings import Settings
from service.training.config import TrainConfig
from service.training.data_source import make_source
from service.video.config import VideoLimits


def clips(config: TrainConfig) -> Iterator[Clip]:
    """Held-out clips of a run, one after the other."""
    source = make_source(config, Settings().subset(VideoLimits), Path("clips"))
    for examples in source.held_out():
        yield from examples.clips.numpy()


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = record.machine()
    candidate, config = of_run(arguments.run)
    measured = compare(candidate, clips(config), arguments.clips).figures("generated", candidate.labels)
    if measured is None:
        parser.error("fewer than 2 clips have a first label that rests on motion")
    figures = measured.model_dump(mode="json")
    for name, figure in figures.items():
        sys.stdout.write(f"{name}: {figure}\n")
    record.write("faithfulness", figures, began=began, ratios={}, path=arguments.json)


if __name__ == "__main__":
    main()
