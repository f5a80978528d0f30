"""Networks as they are checked: uint8 clips in, scores out, whether from a run's folder or a model repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from service.contracts import Activation, ClipFormat, ClipSpec, EventRules
from service.cores import usable_cores
from service.inference.cpu import Forward
from service.inference.onnx_session import onnx_forward
from service.inference.registry import scan_repository
from service.inference.torchscript_archive import load_archive
from service.model.factory import Network
from service.model.layers import NetworkOutput
from service.model.preprocess import Normalize, as_served, rgb_to_yuv420
from service.training.config import TrainConfig
from service.training.start import clip_spec
from service.training.trained_run import read_run

Score = Callable[[Tensor], NetworkOutput]
"""Clips uint8 `(B, T, H, W, 3)`, or in 4:2:0 where the model takes them so, to their scores, on the CPU."""
_BATCH = 32


@dataclass(frozen=True)
class Candidate:
    """What is evaluated."""

    name: str
    clip: ClipSpec
    """How clips are decoded for it."""
    labels: tuple[str, ...]
    activation: Activation
    score: Score
    thresholds: tuple[float, ...] = ()
    """Score of each label from which on it holds; empty where none is known."""
    qualifiers: tuple[str, ...] = ()
    """Labels that are no answer by themselves."""
    events: EventRules = field(default_factory=EventRules)
    """How events are made of its scores."""
    weights_sha256: str | None = None
    """Of a served model."""
    attention: bool = True
    """Whether it gives attention of its own."""
    network: Network | None = None
    """The network itself, where it is at hand: of a served model only its outputs are."""


def of_run(folder: Path) -> tuple[Candidate, TrainConfig]:
    """The best weights of a run's folder and the run's configuration. Raises what `read_run` raises."""
    run = read_run(folder)
    candidate = Candidate(
        folder.name,
        clip_spec(run.config),
        run.labels,
        run.config.activation,
        score_of(run.network, run.config.run.clip_format),
        run.thresholds,
        run.qualifiers,
        run.events or EventRules(),
        network=run.network,
    )
    return candidate, run.config


def of_repository(folder: Path, operators: tuple[str, ...] = ()) -> Candidate:
    """The newest served version of the model whose folder `<repository>/<name>` is given.

    Its file may use `operators` besides those of every network. Raises ModelConfigError or OSError as `scan_repository`
    does.
    """
    file = max(
        (file for file in scan_repository(folder.parent) if file.spec.name == folder.name),
        key=lambda file: int(file.spec.version),
    )
    spec = file.spec
    if file.runtime == "onnxruntime":
        module: Forward = onnx_forward(file.path, spec, usable_cores())
    else:
        module = load_archive(file.path, operators)

    def score(clips: Tensor) -> NetworkOutput:
        if spec.clip_format == "yuv420" and clips.size(-1) == 3:
            clips = rgb_to_yuv420(clips)
        with torch.inference_mode():
            result = module(clips)
        tensors = (result,) if isinstance(result, Tensor) else result
        given = dict(zip(spec.outputs, tensors, strict=True))
        # Without attention all frames are alike: none stands out, and none is dropped.
        even = torch.full((len(clips), spec.frames), 1 / spec.frames)
        attention = given.get("temporal_attention", even)
        return NetworkOutput(
            given["logits"],
            attention,
            given.get("layer_attention", attention[:, None]),
            given.get("layer_retention", torch.ones_like(attention)[:, None]),
        )

    return Candidate(
        spec.name,
        spec.clip,
        spec.labels,
        spec.activation,
        score,
        spec.thresholds,
        spec.qualifiers,
        spec.events,
        weights_sha256=spec.weights_sha256,
        attention=spec.layers > 0,
    )


def among(candidate: Candidate, labels: tuple[str, ...]) -> Candidate:
    """The same with the logits of `labels` only, in their order.

    Raises ValueError where the candidate lacks one of them.
    """
    if missing := [label for label in labels if label not in candidate.labels]:
        raise ValueError(f"{candidate.name} has no label {', '.join(missing)}")
    if candidate.labels == labels:
        return candidate
    chosen = torch.tensor([candidate.labels.index(label) for label in labels])

    def score(clips: Tensor) -> NetworkOutput:
        output = candidate.score(clips)
        return output._replace(logits=output.logits[:, chosen])

    thresholds = tuple(candidate.thresholds[int(i)] for i in chosen) if candidate.thresholds else ()
    qualifiers = tuple(label for label in candidate.qualifiers if label in labels)
    return replace(candidate, labels=labels, score=score, thresholds=thresholds, qualifiers=qualifiers)


def score_of(network: Network, clip_format: ClipFormat = "rgb") -> Score:
    """A function that scores clips with the network as it is, in eval mode; RGB clips as they come in a format."""
    normalize = Normalize()

    def score(clips: Tensor) -> NetworkOutput:
        with torch.inference_mode():
            if clips.size(-1) == 3:
                clips = as_served(clips, clip_format)
            scores: NetworkOutput = network(normalize(clips))
            return scores

    return score


def score_all(score: Score, clips: Tensor) -> NetworkOutput:
    """Score many clips in batches."""
    parts = [score(part) for part in torch.split(clips, _BATCH)]
    return NetworkOutput(*(torch.cat([getattr(part, name) for part in parts]) for name in NetworkOutput._fields))
