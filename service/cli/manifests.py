"""`vidtr classify --manifest`: the lines of a manifest as videos with options of their own."""

from __future__ import annotations

from pathlib import Path

import typer

from service.api.batches.manifest import CSV_TYPE, JSONL_TYPES, ManifestLimits, read_manifest
from service.api.schemas import ClassifyOptions
from service.cli.inputs import Input, printable
from service.client import VideoUrl
from service.contracts import JobRequest
from service.errors import InvalidManifest
from service.settings import Settings


def read(path: Path, options: JobRequest, settings: Settings) -> list[Input]:
    """The videos of a manifest, each with its own options over those of the command. Raises BadParameter."""
    kind = CSV_TYPE if path.suffix.lower() == ".csv" else JSONL_TYPES[0]
    common = ClassifyOptions.model_validate(options.model_dump(exclude_defaults=True))
    try:
        lines = read_manifest(kind, path.read_bytes(), common, settings.subset(ManifestLimits), lambda url, asked: None)
    except InvalidManifest as error:
        raise typer.BadParameter(error.detail, param_hint="--manifest") from error
    names = [line.url if line.id is None else line.id for line in lines]
    return [Input(printable(name), VideoUrl(line.url), line.options) for name, line in zip(names, lines, strict=True)]
