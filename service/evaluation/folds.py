"""Cross-validation by groups: every video is evaluated once, by a network that saw no clip of its original."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.evaluation.baseline import frame_average, mean_frames
from service.training.config import LabeledData, TrainConfig
from service.training.data_source import make_source
from service.training.evaluate import Evaluation, evaluate
from service.training.sources import Examples
from service.training.start import make_network
from service.training.trained_run import describe_run
from service.training.training_loop import train
from service.training.training_state import load_averaged
from service.training.videos_source import Videos
from service.video.config import VideoLimits


@dataclass(frozen=True)
class CrossValidation:
    """All folds together."""

    labels: tuple[str, ...]
    result: Evaluation
    """Of the videos of all folds, in the order of the folds."""
    examples: list[Examples]
    figures: dict[str, Any]
    """By fold `top1`, `frame_average`, `most_frequent` and `chance`, each also as mean and standard deviation."""


def cross_validate(
    config: TrainConfig, out: Path, limits: VideoLimits, windows: int, on_progress: Callable[[str], None]
) -> CrossValidation:
    """Train and evaluate every fold; `out` gets a run's folder for each. A run that is there already continues.

    `most_frequent` always says the training set's most frequent class; `chance` is one of the classes at random.

    Raises ValueError where the data have no folds, or several labels a video.
    """
    if not isinstance(config.data, LabeledData) or config.data.held_out_annotations is not None:
        raise ValueError("folds are dealt to labeled data without held-out annotations")
    if config.data.kind == "charades":
        raise ValueError("cross-validation is for data with one label a video")
    rows: list[dict[str, float]] = []
    results: list[Evaluation] = []
    examples: list[Examples] = []
    labels: tuple[str, ...] = ()
    for fold in range(config.data.folds):
        settings = config.model_copy(update={"data": config.data.model_copy(update={"fold": fold})})
        folder = out / f"fold-{fold}"
        source = make_source(settings, limits, out / "clips")
        if not isinstance(source, Videos):
            raise TypeError("labeled data are read by Videos")
        describe_run(folder, settings, source.labels)
        if labels and source.labels != labels:
            raise ValueError(f"fold {fold} has other labels than the folds before it")
        labels = source.labels
        train(make_network(settings, len(labels)), source, settings, folder)
        # The last weights: those of the best evaluation were chosen by the very videos that are to judge them.
        network = make_network(settings, len(labels))
        load_averaged(folder / "last.safetensors", network)
        held_out = source.held_out(windows)
        result = evaluate(network, held_out, multi_label=False)
        rows.append({"top1": result.figures["top1"], **_baselines(source, held_out)})
        results.append(result)
        examples += held_out
        on_progress(f"fold {fold}: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in rows[-1].items()))
    return CrossValidation(labels, _joined(results), examples, _summary(rows))


def _baselines(source: Videos, held_out: Sequence[Examples]) -> dict[str, float]:
    known = source.training_examples()
    truth = _classes(held_out)
    train_labels = _classes(known)
    guessed = frame_average(
        torch.stack([mean_frames(example.clips) for example in known]),
        train_labels,
        torch.stack([mean_frames(example.clips) for example in held_out]),
        len(source.labels),
    )
    most = Counter(train_labels.tolist()).most_common(1)[0][0]
    return {
        "frame_average": float((guessed == truth).float().mean()),
        "most_frequent": float((truth == most).float().mean()),
        "chance": 1 / len(source.labels),
    }


def _classes(examples: Sequence[Examples]) -> Tensor:
    return torch.cat([example.targets for example in examples]).argmax(1)


def _joined(results: Sequence[Evaluation]) -> Evaluation:
    scores, targets, cut, peak = (
        torch.cat([getattr(result, name) for result in results])
        for name in ("scores", "targets", "cut", "attention_peak")
    )
    return Evaluation(scores, targets, False, cut, peak)


def _summary(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"folds": list(rows)}
    for name in rows[0]:
        values = [row[name] for row in rows]
        figures[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values)}
    return figures


def folds_table(figures: dict[str, Any]) -> str:
    """The figures of each fold and their mean and standard deviation, in HTML."""
    names = [name for name in figures if name != "folds"]
    head = "".join(f"<th>{name.replace('_', ' ')}" for name in names)
    rows = "".join(
        f"<tr><th>fold {i}" + "".join(f"<td>{100 * row[name]:.1f} %" for name in names)
        for i, row in enumerate(figures["folds"])
    )
    last = "".join(f"<td>{100 * figures[name]['mean']:.1f} +- {100 * figures[name]['sd']:.1f} %" for name in names)
    return f"<h2>Folds</h2><table><tr><th>{head}{rows}<tr><th>mean and sd{last}</table>"
