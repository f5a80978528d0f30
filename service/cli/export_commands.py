"""`vidtr export` and `vidtr install-triton`: what has to be on disk before anything can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.cli.triton_arguments import Device, takes_triton_options
from service.contracts import ClipFormat, Precision
from service.model.triton_options import GPU_BATCH, GPU_PRECISION, TritonOptions
from service.settings import Settings


@takes_triton_options
def export(
    model: Annotated[str, typer.Argument(help="Folder of a run of `vidtr train`, or a preset to build.")],
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to write into; the setting model_repository by default.")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Number format of the served weights and products: fp32 by default, bf16 for a GPU."),
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips in one pass at most: 8 by default, 32 for a GPU.")
    ] = None,
    clip_format: Annotated[
        ClipFormat | None,
        typer.Option(help="How clips travel: rgb, or yuv420 in half the bytes; of a run as it was trained."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of a run: name to serve it under; that of the folder.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Of a run: version to write.")] = 1,
    description: Annotated[str, typer.Option(help="Of a run: what the model is, for its users.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Of a run: delete the model's other versions.")] = False,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Return what the network's head reads too, for search by example.")
    ] = False,
    spatial: Annotated[
        bool, typer.Option("--spatial", help="Return where in the picture the class token looked too.")
    ] = False,
    *,
    device: Device,
    triton: TritonOptions | None,
) -> None:
    """Write a trained network, or a preset with seeded weights, as TorchScript with its Triton configuration."""
    from service.model.presets import export_preset
    from service.training.config import is_run

    gpu = device == "gpu"
    number_format: Precision = precision or (GPU_PRECISION if gpu else "fp32")
    clips = max_batch_size or (GPU_BATCH if gpu else None)
    target, run, drift = repository or Settings().model_repository, Path(model), None
    try:
        if is_run(run):
            from service.training.run_export import export_run

            path = export_run(
                run,
                target,
                name=name or run.name,
                version=version,
                description=description,
                precision=number_format,
                clip_format=clip_format,
                max_batch_size=clips,
                serving=triton,
                replace=replace,
                embedding=embedding,
                spatial=spatial,
            )
        elif name or description or replace or version != 1:
            raise ValueError(f"--name, --version, --description and --replace belong to a run, and {model} is none")
        else:
            formats = number_format, triton, clip_format or "rgb", clips
            path = export_preset(model, target, *formats, embedding=embedding, spatial=spatial)
        if clip_format == "yuv420":
            from service.evaluation.clip_format import keep_drift

            drift = str(keep_drift(path, version))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(f"wrote {path}", highlight=False, soft_wrap=True)
    if drift:
        Console().print(drift, highlight=False, soft_wrap=True)


@takes_triton_options
def configure(
    name: Annotated[str, typer.Argument(help="Name of the model: its folder in the model repository.")],
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to write into; the setting model_repository by default.")
    ] = None,
    *,
    triton: TritonOptions | None,
) -> None:
    """Write anew how Triton serves a model; what is not given gets its default. `vidtr models reload` applies it."""
    from service.model.repository_entry import configure_model

    try:
        path = configure_model(repository or Settings().model_repository, name=name, serving=triton or TritonOptions())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(f"wrote {path / 'config.pbtxt'}", highlight=False, soft_wrap=True)


def install_triton() -> None:
    """Install a CPU tritonserver from its PyPI wheel into the setting triton_dir, for `vidtr up --engine triton`."""
    from service.local.triton_install import install_triton as install

    directory = Settings().triton_dir
    install(directory)
    Console().print(f"tritonserver is ready in {directory}", highlight=False, soft_wrap=True)
