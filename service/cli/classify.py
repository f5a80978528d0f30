"""`vidtr classify`: files to labels, through a server or with the same rooms in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.client import Client
from service.contracts import JobRequest, JobResult
from service.errors import VidtrError
from service.settings import Settings

# Raises VidtrError, OSError or httpx.TransportError for a file that cannot be classified.
Classify = Callable[[Path, JobRequest], JobResult]


def classify(
    files: Annotated[list[Path], typer.Argument(help="Video files.", exists=False)],
    server: Annotated[
        str | None, typer.Option(help="Address of a running service; without it the model runs in this process.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDTR_API_KEY", help="Key for that service; better given as VIDTR_API_KEY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per file, one per line.")] = False,
    model: Annotated[str | None, typer.Option(help="Model to ask; the default model when absent.")] = None,
    top_k: Annotated[int, typer.Option(help="Labels per file.")] = 5,
    windows: Annotated[str, typer.Option(help="auto, all or a number of temporal windows.")] = "auto",
    crops: Annotated[int, typer.Option(help="Spatial crops per window: 1 or 3.")] = 1,
) -> None:
    """Classify video files. Exit status: 0 all were classified, 1 some were not, 2 wrong usage."""
    try:
        options = JobRequest.model_validate(
            {"model": model, "top_k": top_k, "crops": crops, "windows": int(windows) if windows.isdigit() else windows}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error
    engine = _remote(server, api_key) if server else _in_process()
    out, log = Console(), Console(stderr=True)
    failed = 0
    results: list[tuple[Path, JobResult]] = []
    with _progress(log) as progress, engine as run:
        task = progress.add_task("classifying", total=len(files))
        for path in files:
            progress.update(task, description=path.name)
            try:
                # Here, so that a file that cannot be read is told from one that cannot be decoded.
                path.open("rb").close()
                result = run(path, options)
            except (VidtrError, OSError, httpx.TransportError) as error:
                failed += 1
                _report(path, error, as_json=as_json, out=out, log=log)
            else:
                results.append((path, result))
                if as_json:
                    _line(out, {"file": str(path), **result.model_dump(mode="json", exclude_none=True)})
            progress.advance(task)
    if results and not as_json:
        _table(out, results)
        for warning in sorted({warning.detail for _, result in results for warning in result.warnings}):
            log.print(f"[yellow]warning[/yellow] {warning}", highlight=False)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _remote(server: str, api_key: str | None) -> Iterator[Classify]:
    with Client(server, api_key=api_key) as client:
        yield lambda path, options: client.classify(path, options)


def _in_process() -> AbstractContextManager[Classify]:
    from service.cli.in_process import classifier

    return classifier(Settings())


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _report(path: Path, error: Exception, *, as_json: bool, out: Console, log: Console) -> None:
    if isinstance(error, VidtrError):
        problem = error.to_dict()
    else:
        code = "unreadable_file" if isinstance(error, OSError) else "server_unreachable"
        problem = {"code": code, "detail": str(error)}
    if as_json:
        _line(out, {"file": str(path), "error": problem})
    log.print(f"[red]error[/red] {path}: {problem['code']}: {problem['detail']}", highlight=False, soft_wrap=True)


def _line(out: Console, document: dict[str, object]) -> None:
    out.file.write(json.dumps(document) + "\n")


def _table(out: Console, results: list[tuple[Path, JobResult]]) -> None:
    table = Table()
    for column in ("file", "label", "score"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    table.add_column("most attended at", justify="right")
    table.add_column("windows", justify="right")
    for path, result in results:
        frames = [frame for window in result.windows for frame in window.attention or ()]
        peak = max(frames, key=lambda frame: frame.score) if frames else None
        for rank, prediction in enumerate(result.predictions):
            first = rank == 0
            table.add_row(
                path.name if first else "",
                prediction.label,
                f"{prediction.score:.3f}",
                f"{peak.time_s:.2f} s" if first and peak else "",
                str(len(result.windows)) if first else "",
            )
        table.add_section()
    out.print(table)
