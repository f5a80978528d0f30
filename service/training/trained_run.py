"""The folder of a run: what describes it, and its best weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.contracts import EventRules
from service.model.factory import Network
from service.model.presets import CAMERA_MOVE_EVENTS, CAMERA_MOVE_QUALIFIERS
from service.model.weights.native import load_weights
from service.training.config import CONFIG_FILE, TrainConfig
from service.training.start import make_network
from service.training.thresholds import read_thresholds

_LABELS, _BEST, _EVENTS = "labels.json", "best.safetensors", "events.json"


@dataclass(frozen=True)
class TrainedRun:
    """What a run has come to."""

    config: TrainConfig
    """As it was run, but for a `start` from a file, which is not needed any more and may be gone."""
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Score of each label from which on it holds; empty where they were not measured."""
    events: EventRules | None
    """How events are made of its scores; None for the defaults."""
    network: Network
    """With the weights of the best evaluation, in eval mode."""

    @property
    def qualifiers(self) -> tuple[str, ...]:
        """Labels that are no answer by themselves."""
        return CAMERA_MOVE_QUALIFIERS if self.config.data.kind == "camera_moves" else ()


def describe_run(folder: Path, config: TrainConfig, labels: Sequence[str]) -> None:
    """Write into the folder what `read_run` needs beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / _LABELS).write_text(json.dumps(labels), encoding="utf-8")


def read_run(folder: Path) -> TrainedRun:
    """The run of a folder.

    Raises OSError where the folder is not that of a run or has no weights yet, and RuntimeError or ValueError where its
    weights do not fit.
    """
    config = TrainConfig.model_validate_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    labels = tuple(json.loads((folder / _LABELS).read_text(encoding="utf-8")))
    if isinstance(config.network.get("start"), dict):
        config = config.model_copy(update={"network": {**config.network, "start": "xavier"}})
    network = make_network(config, len(labels)).eval()
    load_weights(network, folder / _BEST)
    thresholds = read_thresholds(folder, labels)
    events = _read_events(folder, config) if thresholds else None
    return TrainedRun(config, labels, thresholds, events, network)


def write_events(folder: Path, rules: EventRules) -> None:
    """Keep what events of a run are made by in its folder."""
    (folder / _EVENTS).write_text(rules.model_dump_json(indent=2, exclude_defaults=True) + "\n", encoding="utf-8")


def _read_events(folder: Path, config: TrainConfig) -> EventRules | None:
    if (folder / _EVENTS).is_file():
        return EventRules.model_validate_json((folder / _EVENTS).read_text(encoding="utf-8"))
    return CAMERA_MOVE_EVENTS if config.data.kind == "camera_moves" else None
