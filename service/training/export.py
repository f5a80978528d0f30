"""From a finished run to a model that is served."""

from __future__ import annotations

import json
from pathlib import Path

from service.contracts import Precision
from service.model.card import ModelCard
from service.model.export import export_model
from service.model.weights.native import load_weights
from service.training.config import TrainConfig
from service.training.start import clip_spec, make_network


def export_run(
    run: Path, repository: Path, *, name: str, version: int, description: str, precision: Precision = "fp32"
) -> Path:
    """Write the best weights of a run as a model that is served like it was evaluated; return the model's folder.

    Raises OSError where the folder holds no finished run, and ValueError where the model cannot be served so.
    """
    config = TrainConfig.model_validate_json((run / "config.json").read_text(encoding="utf-8"))
    labels = tuple(json.loads((run / "labels.json").read_text(encoding="utf-8")))
    network = make_network(config, len(labels)).eval()
    load_weights(network, run / "best.safetensors")
    spec = clip_spec(config)
    card = ModelCard(
        labels=labels,
        trained=True,
        description=description,
        frame_step=spec.frame_step,
        reference_fps=spec.reference_fps,
        resize_short_side=spec.resize_short_side,
        sampling=spec.sampling,
        resize=spec.resize,
        activation="sigmoid" if config.data.kind == "charades" else "softmax",
        precision=precision,
    )
    return export_model(network, repository, name=name, version=version, card=card)
