"""Writes a network from elsewhere into a model repository."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.foreign_models.description import describe
from service.model.repository_entry import write_version
from service.model.triton_options import TritonOptions

Source = Literal["torchscript", "onnx", "transformers"]


@dataclass(frozen=True)
class ForeignImport:
    """What is imported, and as what."""

    source: Source
    path: Path
    name: str
    version: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    """of the description, as `description.describe` takes them"""
    operators: tuple[str, ...] = ()
    """of TorchScript, allowed besides those that compute"""


def import_foreign(
    given: ForeignImport, repository: Path, *, serving: TritonOptions | None = None, replace: bool = False
) -> Path:
    """Adapt the network, check it by running it, and write it; return the model's folder.

    Raises ForeignModelError where the network is not what was said of it, ValueError as `write_version` does, and
    ModuleNotFoundError where the library that reads it is missing.
    """
    with tempfile.TemporaryDirectory() as directory:
        scratch, path, said = Path(directory), given.path, given.values
        if given.source == "transformers":
            from service.foreign_models.transformers_folder import read_folder

            content, of_folder = read_folder(path)
            path, said = scratch / "traced.pt", of_folder | said
            path.write_bytes(content)
        described = describe(said)
        if given.source == "onnx":
            from service.foreign_models.onnx_network import adapt_onnx

            served, network = adapt_onnx(path, described)
        else:
            from service.foreign_models.torchscript_network import adapt_torchscript

            served, network = adapt_torchscript(path, described, given.operators, scratch)
    return write_version(
        repository,
        given.name,
        given.version,
        network,
        described.card,
        served,
        serving=serving,
        replace=replace,
    )
