"""`vidtr export` and `vidtr install-triton`: what has to be on disk before anything can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.contracts import Precision
from service.settings import Settings


def export(
    preset: Annotated[str, typer.Argument(help="Preset to build and export.")],
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to write into; the setting model_repository by default.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Number format of the served weights and products.")] = "fp32",
) -> None:
    """Build a preset with seeded weights and write it as TorchScript with its Triton configuration."""
    from service.model.presets import export_preset

    target = repository or Settings().model_repository
    try:
        path = export_preset(preset, target, precision)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    Console().print(f"wrote {path}", highlight=False, soft_wrap=True)


def install_triton() -> None:
    """Install a CPU tritonserver from its PyPI wheel into the setting triton_dir, for `vidtr up --engine triton`."""
    from service.local.triton_install import install_triton as install

    directory = Settings().triton_dir
    install(directory)
    Console().print(f"tritonserver is ready in {directory}", highlight=False, soft_wrap=True)
