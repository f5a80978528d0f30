"""`vidtr import`: a checkpoint from elsewhere becomes a model that can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from service.contracts import ClipFormat, Precision
from service.settings import Settings

_UNUSED_SHOWN = 5


def import_weights(
    checkpoint: Annotated[
        Path, typer.Argument(help="A safetensors file, PyTorch archive or NumPy archive.", exists=True, dir_okay=False)
    ],
    preset: Annotated[str, typer.Option(help="Network that the weights belong to, and its preprocessing.")],
    labels: Annotated[str, typer.Option(help="Packaged class names (such as k400), or a file of one name a line.")],
    inflate: Annotated[
        bool, typer.Option("--inflate", help="The checkpoint is an image ViT: start a video model from it.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name to serve it under; the preset's by default.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Version to write.")] = 1,
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to write into; the setting model_repository by default.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Number format of the served weights and products.")] = "fp32",
    clip_format: Annotated[
        ClipFormat, typer.Option(help="How clips travel to the model: rgb, or yuv420 in half the bytes.")
    ] = "rgb",
) -> None:
    """Read a checkpoint without running anything in it, and write it as TorchScript with its Triton configuration."""
    from service.model.labels import read_labels
    from service.model.presets import find_preset
    from service.model.weights.importing import import_checkpoint

    target = repository or Settings().model_repository
    try:
        imported = import_checkpoint(
            checkpoint,
            target,
            preset=find_preset(preset),
            labels=read_labels(labels),
            name=name or preset,
            version=version,
            from_image=inflate,
            precision=precision,
            clip_format=clip_format,
        )
        drift = None
        if clip_format == "yuv420":
            from service.evaluation.clip_format import keep_drift

            drift = keep_drift(imported.folder, version)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    if imported.unused:
        shown = ", ".join(imported.unused[:_UNUSED_SHOWN])
        more = f" and {len(imported.unused) - _UNUSED_SHOWN} more" if len(imported.unused) > _UNUSED_SHOWN else ""
        Console(stderr=True).print(f"not used: {escape(shown)}{more}", highlight=False, soft_wrap=True)
    Console().print(f"wrote {escape(str(imported.folder))}", highlight=False, soft_wrap=True)
    if drift is not None:
        Console().print(str(drift), highlight=False, soft_wrap=True)
