"""`vidtr classify --manifest`: the lines of a manifest, through a server as one batch or one by one in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, cast

import typer
from rich.console import Console

from service.api.batches.manifest import CSV_TYPE, JSONL_TYPES, ManifestLimits, read_manifest
from service.api.schemas import ClassifyOptions
from service.cli.answers import Answer
from service.cli.inputs import Input, printable
from service.client import BatchResult, Client, VideoUrl
from service.client.client_errors import problem_error
from service.contracts import JobRequest
from service.errors import InternalError, InvalidManifest
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


def as_batch(client: Client, wanted: Sequence[Input], log: Console) -> Generator[Answer]:
    """Answers as they come of a batch of these videos. One that is not read to its end is cancelled."""
    batch = client.create_batch([_line(video) for video in wanted])
    log.print(f"batch {batch.id}: {batch.counts.total} videos", highlight=False)
    ended = False
    try:
        for result in client.batch_results(batch.id):
            yield _answer(wanted[result.line - 1].name, result)
        ended = True
    except KeyboardInterrupt:
        # The command says how many are done.
        return
    finally:
        if not ended:
            log.print(f"cancelling batch {batch.id}", highlight=False)
            client.cancel_batch(batch.id)


def _line(video: Input) -> dict[str, Any]:
    options = {} if video.options is None else video.options.model_dump(exclude_none=True, exclude_defaults=True)
    return {"source": {"url": cast(VideoUrl, video.video).url}, "options": options}


def _answer(name: str, result: BatchResult) -> Answer:
    if result.result is not None:
        return Answer(name, result=result.result)
    error = InternalError("The line has no result.") if result.error is None else problem_error(result.error)
    return Answer.failed(name, error)
