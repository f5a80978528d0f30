"""The answers in a file: one, the state of a job, or the records of a run or a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from pydantic import ValidationError

from service.contracts import JobResult, Provenance

# The member that `vidtr classify` adds to answers, with the name of their file.
OF_A_RECORD = "file"


class FoundAnswer(NamedTuple):
    """An answer as it stands in a file, and as it is read."""

    document: dict[str, Any]
    result: JobResult


class RepeatedMember(ValueError):
    """An object has two members of one name: which of them counts, readers decide differently."""


def answers_in(path: Path) -> list[FoundAnswer]:
    """Every answer in a file of JSON, or with one to a line; failures are left out. Raises BadParameter."""
    try:
        found = [FoundAnswer(document, JobResult.model_validate(document)) for document in _documents(path)]
    except (ValueError, ValidationError, RecursionError) as error:
        raise typer.BadParameter(f"{path} holds no answer of vidtr: {error}", param_hint="ANSWER") from error
    if not found:
        raise typer.BadParameter(f"{path} holds no answer, only failures", param_hint="ANSWER")
    return found


def answer_about(path: Path, sha256: str) -> tuple[FoundAnswer, Provenance]:
    """The answer in the file; of several the first that names this video. Raises BadParameter."""
    answers = answers_in(path)
    known = [(one, one.result.provenance) for one in answers if one.result.provenance is not None]
    if not known:
        raise typer.BadParameter(
            f"{path} does not say with which options its answer was made, as answers do from release 0.3.0 on",
            param_hint="ANSWER",
        )
    about = [pair for pair in known if pair[1].video_sha256 == sha256]
    if not about and len(known) > 1:
        raise typer.BadParameter(f"none of the {len(known)} answers in {path} is about this video", param_hint="ANSWER")
    return (about or known)[0]


def _documents(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        documents = _parsed(text)
    except RepeatedMember:
        raise
    except ValueError:
        documents = [_parsed(line) for line in text.splitlines() if line.strip()]
    for document in documents if isinstance(documents, list) else [documents]:
        # The state of a job has its answer inside.
        inner = document.get("result", document) if isinstance(document, dict) else document
        if not isinstance(inner, dict):
            yield inner
        elif "error" not in inner:
            yield {name: value for name, value in inner.items() if name != OF_A_RECORD}


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_members)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedMember(f"an object has the member {twice!r} more than once")
    return members
