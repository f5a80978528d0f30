"""`vidtr import`: a checkpoint or a whole network from elsewhere becomes a model that can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.foreign_arguments import takes_foreign_options
from service.contracts import ClipFormat, Precision
from service.settings import Settings

_UNUSED_SHOWN = 5
_FOLDER = "hf:"


@takes_foreign_options
def import_weights(
    checkpoint: Annotated[
        str | None,
        typer.Argument(help="A safetensors file, PyTorch archive or NumPy archive; or hf: and a transformers folder."),
    ] = None,
    torchscript: Annotated[
        Path | None, typer.Option(help="A TorchScript file of another library.", exists=True, dir_okay=False)
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="An ONNX file of another library.", exists=True, dir_okay=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Of a checkpoint: network that it belongs to, and its preprocessing.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Packaged class names (such as k400), or a file of one name a line.")
    ] = None,
    inflate: Annotated[
        bool, typer.Option("--inflate", help="The checkpoint is an image ViT: start a video model from it.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name to serve it under; that of the preset, file or folder by default.")
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Version to write.")] = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="Of another library: delete the model's other versions.")
    ] = False,
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to write into; the setting model_repository by default.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of a checkpoint: number format of the served weights and products.")
    ] = "fp32",
    clip_format: Annotated[
        ClipFormat, typer.Option(help="Of a checkpoint: how clips travel, rgb or yuv420 in half the bytes.")
    ] = "rgb",
    *,
    foreign: dict[str, Any],
) -> None:
    """Write weights or a whole network from elsewhere as a model that can be served, with its Triton configuration."""
    folder = Path(checkpoint.removeprefix(_FOLDER)) if checkpoint and checkpoint.startswith(_FOLDER) else None
    if sum(source is not None for source in (checkpoint, torchscript, onnx)) != 1:
        raise typer.BadParameter(f"give one of a checkpoint, {_FOLDER}FOLDER, --torchscript and --onnx")
    target = repository or Settings().model_repository
    try:
        if checkpoint is not None and folder is None:
            if foreign or replace:
                named = ", ".join(f"--{option.replace('_', '-')}" for option in (foreign or {"replace": replace}))
                raise typer.BadParameter(f"{named} describe a network of another library; a checkpoint has its preset")
            if preset is None or labels is None:
                raise typer.BadParameter("a checkpoint needs --preset and --labels")
            if not Path(checkpoint).is_file():
                raise typer.BadParameter(f"{checkpoint} is no file", param_hint="CHECKPOINT")
            _checkpoint(Path(checkpoint), target, preset, labels, inflate, name, version, precision, clip_format)
        else:
            if preset is not None or inflate or precision != "fp32" or clip_format != "rgb":
                raise typer.BadParameter("--preset, --inflate, --precision and --clip-format belong to a checkpoint")
            _foreign(folder, torchscript, onnx, target, labels, name, version, replace, foreign)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _foreign(
    folder: Path | None,
    torchscript: Path | None,
    onnx: Path | None,
    target: Path,
    labels: str | None,
    name: str | None,
    version: int,
    replace: bool,
    said: dict[str, Any],
) -> None:
    from service.foreign_models.description import read_description
    from service.foreign_models.foreign_import import ForeignImport, import_foreign
    from service.model.labels import read_labels

    card = said.pop("card", None)
    values = (read_description(card) if card is not None else {}) | said
    if (given := labels or values.get("labels")) is not None:
        values["labels"] = list(read_labels(given)) if isinstance(given, str) else given
    if folder is not None:
        source, path = "transformers", folder
    elif torchscript is not None:
        source, path = "torchscript", torchscript
    else:
        assert onnx is not None  # noqa: S101 - one of the three is given
        source, path = "onnx", onnx
    operators = Settings().torchscript_operators
    given_import = ForeignImport(source, path, name or path.resolve().stem, version, values, operators)  # type: ignore[arg-type]
    written = import_foreign(given_import, target, replace=replace)
    Console().print(f"wrote {escape(str(written))}", highlight=False, soft_wrap=True)


def _checkpoint(
    checkpoint: Path,
    target: Path,
    preset: str,
    labels: str,
    inflate: bool,
    name: str | None,
    version: int,
    precision: Precision,
    clip_format: ClipFormat,
) -> None:
    """Read a checkpoint without running anything in it, and write it."""
    from service.model.labels import read_labels
    from service.model.presets import find_preset
    from service.model.weights.importing import import_checkpoint

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
    if imported.unused:
        shown = ", ".join(imported.unused[:_UNUSED_SHOWN])
        more = f" and {len(imported.unused) - _UNUSED_SHOWN} more" if len(imported.unused) > _UNUSED_SHOWN else ""
        Console(stderr=True).print(f"not used: {escape(shown)}{more}", highlight=False, soft_wrap=True)
    Console().print(f"wrote {escape(str(imported.folder))}", highlight=False, soft_wrap=True)
    if drift is not None:
        Console().print(str(drift), highlight=False, soft_wrap=True)
