"""`vidtr classify`: files to labels, through a server or with the same pipeline in this process."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import compress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.cli.answers import Answer, Csv, Format, JsonLines, print_table, records
from service.cli.attention_notes import attention_notes
from service.cli.batch_answers import as_batch
from service.cli.engines import Engine, EnvFile, Repository, Server, chosen_settings, client_of, engine
from service.cli.exported import export_format, exports
from service.cli.inputs import Input, expand
from service.cli.side_by_side import INTERRUPTED, one_after_the_other, side_by_side
from service.contracts import JobRequest
from service.errors import VidtrError
from service.settings import Settings
from service.sources.config import BucketConfig

REFUSED, TRY_AGAIN = 1, 3


def classify(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, patterns, URLs, buckets with a prefix, or - for standard input."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="File of videos by URL, JSONL or CSV; with --server they go as one batch.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    server: Server = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDTR_API_KEY", help="Key for that service; better given as VIDTR_API_KEY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array of all answers.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Write one JSON document per file and line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write one row of comma-separated values per file.")] = False,
    as_export: Annotated[
        str | None,
        typer.Option("--format", help="Write files of other programs: csv, vtt, srt, edl, otio, and more."),
    ] = None,
    of: Annotated[str, typer.Option(help="What --format writes: events or shots.")] = "events",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write to, with --jsonl, --csv or --format; there also a folder."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out the files that --output holds already.")] = False,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Send files in pieces: after a cut only the rest is sent.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files classified at the same time.")] = 2,
    retry_for_s: Annotated[
        float, typer.Option(min=0, help="Seconds for which a busy or unreachable service is asked again.")
    ] = 120.0,
    model: Annotated[str | None, typer.Option(help="Model to ask; the default model when absent.")] = None,
    top_k: Annotated[int, typer.Option(help="Labels per file.")] = 5,
    windows: Annotated[str, typer.Option(help="Temporal windows: auto, all or a number.")] = "auto",
    stride: Annotated[
        float | None,
        typer.Option(help="Seconds between the starts of windows, with --windows all; a span when absent."),
    ] = None,
    split: Annotated[str, typer.Option(help="Bounds that no window crosses: shots or none.")] = "none",
    crops: Annotated[int, typer.Option(help="Spatial crops per window: 1 or 3.")] = 1,
    stream: Annotated[
        int | None, typer.Option(help="Number of the video stream, from 0; the file's main one when absent.")
    ] = None,
    attention: Annotated[
        str, typer.Option(help="Attention in the answers: none, frames, layers, or spatial, where in the frames too.")
    ] = "frames",
    evidence: Annotated[
        str, typer.Option(help="What else to measure: causal, which frames a label rests on, or none.")
    ] = "none",
    evidence_label: Annotated[
        str | None, typer.Option(help="Label for --evidence; the first of each window when absent.")
    ] = None,
    evidence_window: Annotated[
        int | None, typer.Option(min=0, help="Window for --evidence, from 0; all when absent.")
    ] = None,
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Also the model's embedding of each window and video, for search.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Show each window on standard error, with --windows all as it is scored.")
    ] = False,
    repository: Repository = None,
    env_file: EnvFile = None,
) -> None:
    """Classify videos. Exit status: 0 all were classified, 1 some were refused, 2 wrong usage, 3 try again later."""
    options = request_options(
        model=model,
        top_k=top_k,
        crops=crops,
        windows=windows,
        stride=stride,
        split=split,
        stream=stream,
        attention=attention,
        evidence=evidence,
        evidence_label=evidence_label,
        evidence_window=evidence_window,
        embedding=embedding,
    )
    form = _format(as_json=as_json, as_jsonl=as_jsonl, as_csv=as_csv, top_k=top_k)
    export = export_format(as_export, of)
    if export is not None and (form is not None or as_json or resume):
        raise typer.BadParameter("it goes with none of --json, --jsonl, --csv and --resume", param_hint="--format")
    if resumable and server is None:
        raise typer.BadParameter("files go to a server: name one with --server", param_hint="--resumable")
    if (files is None) == (manifest is None):
        raise typer.BadParameter("name either files or a --manifest", param_hint="FILES")
    if manifest is not None and (resumable or (live and server is not None)):
        raise typer.BadParameter("it goes with neither --resumable nor, with --server, --live", param_hint="--manifest")
    settings = chosen_settings(server, repository, env_file)
    kept = {} if export else _kept(form, output, resume=resume)
    log = Console(stderr=True)
    tally: Counter[str] = Counter()
    answers: list[Answer] = []
    notes: list[str] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vidtr-classify-")))
        inputs = _inputs(files or [], manifest, options, settings, scratch)
        wanted = [video for video in inputs if video.name not in kept]
        if len(wanted) < len(inputs):
            log.print(
                f"{len(inputs) - len(wanted)} of {len(inputs)} files are in {escape(str(output))} already",
                highlight=False,
                soft_wrap=True,
            )
        # An empty run still leaves a whole output file.
        exported = stack.enter_context(exports(export, output, len(wanted))) if export else None
        sink = None if form is None else stack.enter_context(records(form, output, kept.values()))
        # Windows that are shown as they are scored come of videos that are asked for one by one.
        batches = server is not None and not live
        batched = [batches and (video.listed or manifest is not None) for video in wanted]
        together = list(compress(wanted, batched))
        apart = [video for video, goes in zip(wanted, batched, strict=True) if not goes]
        parts: list[tuple[int, Iterable[Answer]]] = []
        run: Engine | None = None
        if apart:
            run = stack.enter_context(engine(server, api_key, retry_for_s, settings, resumable=resumable))
            parts.append((len(apart), side_by_side(run, apart, options, jobs, log, live=live)))
        if together and server is not None:
            client = stack.enter_context(client_of(server, api_key, retry_for_s))
            # Closed before the client, so that the batch is cancelled wherever Ctrl-C is noticed.
            parts.append((len(together), stack.enter_context(closing(as_batch(client, together, options, log)))))
        come = one_after_the_other(parts)
        progress = stack.enter_context(_progress(log))
        task = progress.add_task("classifying", total=len(wanted))
        for given in come:
            answer = exported.take(given) if exported else given
            if answer.problem is not None:
                tally["try again" if answer.may_pass else "refused"] += 1
                problem = answer.problem
                log.print(
                    f"[red]error[/red] {escape(answer.name)}: {problem['code']}: {escape(problem['detail'])}",
                    highlight=False,
                    soft_wrap=True,
                )
            if sink is not None:
                sink.write(answer)
            elif exported is None:
                answers.append(answer)
            tally["done"] += 1
            progress.advance(task)
        if answers and not as_json:
            if run is None:
                run = stack.enter_context(engine(server, api_key, 0.0, settings))
            notes = attention_notes(run, answers)
    if form is None and export is None:
        order = {video.name: place for place, video in enumerate(wanted)}
        answers.sort(key=lambda answer: order[answer.name])
        _show(answers, notes, as_json=as_json, log=log)
    if tally["done"] < len(wanted):
        log.print(f"stopped: {tally['done']} of {len(wanted)} files are done", highlight=False)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(TRY_AGAIN if tally["try again"] else REFUSED if tally["refused"] else 0)


def _inputs(
    files: Sequence[str], manifest: Path | None, options: JobRequest, settings: Settings, scratch: Path
) -> list[Input]:
    if manifest is not None:
        try:
            # The client alone is installed without what reads a manifest.
            from service.cli.manifests import read
        except ImportError as error:
            raise typer.BadParameter(
                "this installation reads no manifests: install it with the extra `api`", param_hint="--manifest"
            ) from error
        return read(manifest, options, settings)

    def objects_below(url: str) -> Iterator[str]:
        try:
            from service.sources.listing import objects_below

            yield from objects_below(url, settings.subset(BucketConfig))
        except ImportError as error:
            raise typer.BadParameter(
                "this installation reads no buckets: install it with the extra `buckets`", param_hint="FILES"
            ) from error
        except (VidtrError, OSError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="FILES") from error

    return expand(files, scratch, objects_below)


def request_options(**given: object) -> JobRequest:
    """The options of a classification from those of a command. Raises BadParameter."""
    windows = str(given["windows"])
    try:
        number = windows.isascii() and windows.isdecimal()
        return JobRequest.model_validate({**given, "windows": int(windows) if number else windows})
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error


def _format(*, as_json: bool, as_jsonl: bool, as_csv: bool, top_k: int) -> Format | None:
    if as_json + as_jsonl + as_csv > 1:
        raise typer.BadParameter("only one of --json, --jsonl and --csv can be had")
    if as_jsonl:
        return JsonLines()
    return Csv(top_k) if as_csv else None


def _kept(form: Format | None, output: Path | None, *, resume: bool) -> dict[str, str]:
    """Records of an earlier run by the name of their file."""
    if output is None:
        if resume:
            raise typer.BadParameter("--resume goes on with a file: name it with --output")
        return {}
    if form is None:
        raise typer.BadParameter("--output needs --jsonl, --csv or --format")
    if output.is_dir():
        raise typer.BadParameter(f"{output} is a folder", param_hint="--output")
    if not output.exists() or output.stat().st_size == 0:
        return {}
    if not resume:
        raise typer.BadParameter(f"{output} exists: go on with it by --resume, or remove it", param_hint="--output")
    try:
        return dict(form.kept(output.read_text(encoding="utf-8", errors="replace")))
    except ValueError as error:
        raise typer.BadParameter(f"{output}: {error}", param_hint="--output") from error


def _show(answers: Sequence[Answer], notes: Sequence[str], *, as_json: bool, log: Console) -> None:
    out = Console()
    if as_json:
        out.file.write(json.dumps([answer.document for answer in answers], indent=1) + "\n")
        return
    if any(answer.result for answer in answers):
        print_table(answers, out)
    for note in notes:
        out.print(note, markup=False, highlight=False, soft_wrap=True)
    warnings = {warning.detail for answer in answers if answer.result for warning in answer.result.warnings}
    for warning in sorted(warnings):
        log.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
