"""`vidtr classify --format`: answers as files that other programs open."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from service.cli.answers import Answer
from service.errors import InvalidOption, NothingToExport
from service.exports.formats import Format, named
from service.exports.spans import KINDS, Kind, NamedResult


@dataclass(frozen=True)
class Export:
    """A format, and which of an answer's lists it holds."""

    form: Format
    of: Kind


def export_format(name: str | None, of: str) -> Export | None:
    """What `--format` and `--of` ask for. Raises BadParameter, which lists what can be asked."""
    if of not in KINDS:
        raise typer.BadParameter(f"must be one of {', '.join(KINDS)}, not {of!r}", param_hint="--of")
    try:
        return None if name is None else Export(named(name), of)
    except InvalidOption as error:
        raise typer.BadParameter(error.detail, param_hint="--format") from error


class Exports:
    """Writes answers: one file for all of them where the format has room, else one for each."""

    def __init__(self, export: Export, output: Path | None) -> None:
        self._form, self._of = export.form, export.of
        self._output = output
        self._held: list[NamedResult] = []

    def take(self, answer: Answer) -> Answer:
        """Take an answer; where each has a file of its own, that file is written now.

        Gives the answer back, or in place of one that the format cannot hold its failure.
        """
        if answer.result is None:
            return answer
        video = NamedResult(answer.name, answer.result)
        try:
            text = self._form.write([video], self._of)
        except NothingToExport as error:
            return Answer.failed(answer.name, error)
        if self._form.holds_many:
            self._held.append(video)
        elif self._output is not None and self._output.is_dir():
            self._put(self._output / f"{video.stem}.{self._form.extension}", text)
        else:
            self._put(self._output, text)
        return answer

    def finish(self) -> None:
        """Write the file that holds all answers, by the names of their videos."""
        if self._held:
            self._held.sort(key=lambda video: video.name)
            self._put(self._output, self._form.write(self._held, self._of))

    @staticmethod
    def _put(path: Path | None, text: str) -> None:
        if path is None:
            sys.stdout.write(text)
            return
        # Under another name until it is whole: a program that watches the folder opens no half of a file.
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text, encoding="utf-8", newline="")
        fresh.replace(path)


@contextmanager
def exports(export: Export, output: Path | None, files: int) -> Iterator[Exports]:
    """Write to `output`, or to standard output. Raises BadParameter where the files have no room there."""
    form, folder = export.form, output is not None and output.is_dir()
    if not form.holds_many and files > 1 and not folder:
        detail = f"{form.name} has room for one video, and {files} are given. Name a folder that exists with --output."
        raise typer.BadParameter(detail, param_hint="--format")
    if form.holds_many and folder:
        raise typer.BadParameter(f"{output} is a folder: {form.name} is one file.", param_hint="--output")
    if output is not None and output.exists() and not folder:
        raise typer.BadParameter(f"{output} exists: remove it, or name another file.", param_hint="--output")
    written = Exports(export, output)
    yield written
    written.finish()
