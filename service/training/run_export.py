"""From a finished run to a model that is served."""

from __future__ import annotations

from pathlib import Path

from service.contracts import ClipFormat, Precision
from service.model.card import ModelCard
from service.model.model_export import export_model
from service.model.triton_options import TritonOptions
from service.training.start import clip_spec
from service.training.trained_run import read_run


def export_run(
    run: Path,
    repository: Path,
    *,
    name: str,
    version: int,
    description: str,
    precision: Precision = "fp32",
    clip_format: ClipFormat | None = None,
    max_batch_size: int | None = None,
    serving: TritonOptions | None = None,
    replace: bool = False,
    embedding: bool = False,
    spatial: bool = False,
) -> Path:
    """Write the best weights of a run as a model that is served like it was evaluated; return the model's folder.

    `clip_format` is that of the run where it is None. With `replace` other versions of the model are deleted,
    with `embedding` it also returns what its head reads, with `spatial` where its class token looked.

    Raises what `read_run` and `export_model` raise.
    """
    finished = read_run(run)
    clip = clip_spec(finished.config)
    card = ModelCard(
        labels=finished.labels,
        trained=True,
        description=description,
        frame_step=clip.frame_step,
        reference_fps=clip.reference_fps,
        resize_short_side=clip.resize_short_side,
        sampling=clip.sampling,
        resize=clip.resize,
        framing=clip.framing,
        clip_format=clip_format or clip.clip_format,
        max_batch_size=max_batch_size or ModelCard.max_batch_size,
        activation=finished.config.activation,
        thresholds=finished.thresholds,
        qualifiers=finished.qualifiers if finished.thresholds else (),
        events=finished.events,
        precision=precision,
        embedding=embedding,
        spatial=spatial,
    )
    return export_model(
        finished.network, repository, name=name, version=version, card=card, serving=serving, replace=replace
    )
