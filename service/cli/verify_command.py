"""`vidtr verify`: whether an answer holds for a video, by computing it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from service.cli.answers import Answer
from service.cli.classify_command import REFUSED, TRY_AGAIN
from service.cli.engines import EnvFile, Repository, Server, chosen_settings, engine
from service.contracts import JobResult, Provenance
from service.digest import file_sha256
from service.errors import VidtrError
from service.settings import Settings
from service.verification import TOLERANCE, Difference, differences, unabridged

SHOWN = 20
"""Differences that are printed; more are counted."""


def verify(
    answer: Annotated[Path, typer.Argument(help="Answer to check, as JSON.", exists=True, dir_okay=False)],
    file: Annotated[Path, typer.Argument(help="Video that it is about.", exists=True, dir_okay=False)],
    server: Server = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDTR_API_KEY", help="Key for that service; better given as VIDTR_API_KEY.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far scores and times may be apart.")
    ] = TOLERANCE,
    repository: Repository = None,
    env_file: EnvFile = None,
) -> None:
    """Compute an answer again and say whether it holds. Exit status: 0 it does, 1 it does not, 3 try again later."""
    log = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    with log.status("reading"):
        sha256 = file_sha256(file)
        given, made_of = _answer_about(answer, sha256)
    settings = chosen_settings(server, repository, env_file)
    found = [*_wrong_video(made_of, sha256)]
    if not found:
        options = made_of.options.model_copy(update={"model": given.model.name, "version": given.model.version})
        settings = _computing_as(given, settings)
        try:
            with log.status("computing it again"), engine(server, api_key, 60.0, settings, emulate=True) as run:
                computed = run.classify(file, unabridged(options))
        except (VidtrError, OSError, httpx.TransportError) as error:
            failed = Answer.failed(file.name, error)
            problem = failed.problem or {}
            log.print(f"error {problem['code']}: {problem['detail']}")
            raise typer.Exit(TRY_AGAIN if failed.may_pass else REFUSED) from None
        found += differences(given, computed, options, tolerance)
    out = Console(highlight=False, soft_wrap=True, markup=False)
    for where, answered, computed_now in found[:SHOWN]:
        out.print(f"{where}: the answer says {_said(answered)}, it is {_said(computed_now)}")
    if len(found) > SHOWN:
        out.print(f"and {len(found) - SHOWN} more")
    if found:
        out.print(f"does not hold: {len(found)} differences")
        raise typer.Exit(REFUSED)
    known = "" if made_of.video_sha256 else " (the answer does not name its video by hash)"
    out.print(f"holds: {given.model.name} {given.model.version}, weights {given.model.weights_sha256[:12]}…{known}")


def _computing_as(given: JobResult, settings: Settings) -> Settings:
    """The settings with which this process computes in the arithmetic of the answer, whatever its CPU has."""
    arithmetic = given.model.arithmetic
    wanted = arithmetic if arithmetic in ("bf16", "int8") else "fp32"
    return settings.model_copy(update={"engine_precision": wanted})


def _answer_about(path: Path, sha256: str) -> tuple[JobResult, Provenance]:
    """The answer in the file; of several the first that names this video. Raises BadParameter."""
    try:
        answers = [JobResult.model_validate(document) for document in _results(path)]
    except (ValueError, ValidationError) as error:
        raise typer.BadParameter(f"{path} holds no answer of vidtr: {error}", param_hint="ANSWER") from error
    if not answers:
        raise typer.BadParameter(f"{path} holds no answer, only failures", param_hint="ANSWER")
    known = [(one, one.provenance) for one in answers if one.provenance is not None]
    if not known:
        raise typer.BadParameter(
            f"{path} does not say with which options its answer was made, as answers do from release 0.3.0 on",
            param_hint="ANSWER",
        )
    about = [pair for pair in known if pair[1].video_sha256 == sha256]
    if not about and len(known) > 1:
        raise typer.BadParameter(f"none of the {len(known)} answers in {path} is about this video", param_hint="ANSWER")
    return (about or known)[0]


def _results(path: Path) -> Iterator[Any]:
    """The documents of answers in a file of JSON, or with one to a line."""
    text = path.read_text(encoding="utf-8")
    try:
        documents = json.loads(text)
    except ValueError:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    for document in documents if isinstance(documents, list) else [documents]:
        # The state of a job has its answer inside.
        inner = document.get("result", document) if isinstance(document, dict) else document
        if not (isinstance(inner, dict) and "error" in inner):
            yield inner


def _wrong_video(made_of: Provenance, sha256: str) -> Sequence[Difference]:
    if made_of.video_sha256 in (None, sha256):
        return ()
    return (Difference("the SHA-256 of the video", made_of.video_sha256, sha256),)


def _said(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
