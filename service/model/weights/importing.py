"""From a checkpoint file to a model repository entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from service.contracts import ClipFormat, Precision
from service.model.factory import build_network
from service.model.model_export import export_model
from service.model.presets import Preset
from service.model.weights.checkpoint import read_checkpoint
from service.model.weights.inflate import inflate
from service.model.weights.matching import assign_weights


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what it left out of an image checkpoint."""

    folder: Path
    unused: list[str]


def import_checkpoint(
    checkpoint: Path,
    repository: Path,
    *,
    preset: Preset,
    labels: Sequence[str],
    name: str,
    version: int,
    from_image: bool = False,
    precision: Precision = "fp32",
    clip_format: ClipFormat = "rgb",
) -> Imported:
    """Write the checkpoint's weights in the preset's network as `<repository>/<name>/<version>`.

    Network and preprocessing are the preset's, with as many classes as there are labels. With `from_image` the file is
    an image ViT, to be inflated; the head is then random, the same each time, and the entry says that it is untrained.

    Raises CheckpointError where the file cannot be read, CheckpointMismatch where its weights do not fit the network,
    ValueError as `export_model` and ModelCard do, and OSError where the file cannot be opened. Nothing is written then.
    """
    # First, because it is what most often goes wrong, and a network of full size takes seconds to build.
    weights = read_checkpoint(checkpoint)
    card = replace(
        preset.card,
        labels=tuple(labels),
        trained=not from_image,
        precision=precision,
        clip_format=clip_format,
        description=f"Inflated from the image ViT {checkpoint.name}; the classification head is random."
        if from_image
        else f"Imported from {checkpoint.name}.",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(preset.seed)
        network = build_network(replace(preset.config, classes=len(labels))).eval()
    unused: list[str] = []
    if from_image:
        unused = inflate(network, weights)
    else:
        assign_weights(network, weights)
    return Imported(export_model(network, repository, name=name, version=version, card=card), unused)
