"""How the answers to many files are written: as a table, or one record per file that a later run can go on from."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.aggregate import NOTHING_CLEAR, most_attended
from service.contracts import FrameAttention, JobResult, WindowResult
from service.errors import EmptyUpload, ServiceError, TemporaryError, VideoError, VidtrError, error_types

UNREADABLE = "unreadable_file"
UNREACHABLE = "server_unreachable"


@dataclass(frozen=True)
class Answer:
    """What became of one file: a result or a problem."""

    name: str
    result: JobResult | None = None
    problem: dict[str, Any] | None = None

    @classmethod
    def failed(cls, name: str, error: Exception) -> Answer:
        """The answer for a file that could not be classified."""
        if isinstance(error, VidtrError):
            return cls(name, problem={key: value for key, value in error.to_dict().items() if value is not None})
        code = UNREADABLE if isinstance(error, OSError) else UNREACHABLE
        return cls(name, problem={"code": code, "detail": str(error) or type(error).__name__})

    @property
    def document(self) -> dict[str, Any]:
        """As one JSON object."""
        if self.result is None:
            return {"file": self.name, "error": self.problem}
        return {"file": self.name, **self.result.document}

    @property
    def may_pass(self) -> bool:
        """Whether the file failed, and a later run may succeed."""
        return self.problem is not None and may_pass(self.problem["code"])


def is_of_video(code: str) -> bool:
    """Whether a record with this code, empty for a result, says something of the video that stays true.

    A wrong key, a wrong option, a proxy that refuses: they are mended without the video.
    """
    return not code or issubclass(error_types().get(code, VidtrError), VideoError | EmptyUpload)


def may_pass(code: str) -> bool:
    """Whether the same command may succeed later where an error of this code ended it."""
    return code in (UNREADABLE, UNREACHABLE) or issubclass(
        error_types().get(code, VidtrError), TemporaryError | ServiceError
    )


def peak(result: JobResult) -> FrameAttention | None:
    """The frame of the whole video that counted most in its window; None where no frame of any window stands out."""
    frames = [most for window in result.windows if (most := most_attended(window.attention or ()))]
    return max(frames, key=lambda frame: frame.score, default=None)


class Format(ABC):
    """One way to write records, and to read again which of them are whole."""

    def header(self) -> str:
        """What stands before the records."""
        return ""

    @abstractmethod
    def record(self, answer: Answer) -> str:
        """One file, with its line end."""

    @abstractmethod
    def kept(self, text: str) -> Iterator[tuple[str, str]]:
        """Name and record of each file in `text` that needs no other try. A record cut short is left out."""


class JsonLines(Format):
    """One JSON document per line."""

    def record(self, answer: Answer) -> str:
        return json.dumps(answer.document) + "\n"

    def kept(self, text: str) -> Iterator[tuple[str, str]]:
        for line in text.splitlines(keepends=True):
            try:
                document = json.loads(line) if line.endswith("\n") else None
            except ValueError:
                continue
            if isinstance(document, dict) and "file" in document and is_of_video(_code(document.get("error"))):
                yield document["file"], line


class Csv(Format):
    """One row per file, with the columns of as many labels as were asked for."""

    def __init__(self, top_k: int) -> None:
        self._labels = top_k
        ranks = range(1, top_k + 1)
        self._columns = ["file", "error", *(f"{kind}_{rank}" for rank in ranks for kind in ("label", "score"))]
        self._columns += ["most_attended_s", "windows", "duration_s", "model", "version", "abstained"]

    def header(self) -> str:
        return _row(self._columns)

    def record(self, answer: Answer) -> str:
        labels: list[Any] = [""] * (2 * self._labels)
        if answer.result is None:
            return _row([answer.name, _code(answer.problem), *labels, "", "", "", "", "", ""])
        result, most = answer.result, peak(answer.result)
        for rank, prediction in enumerate(result.predictions):
            labels[2 * rank : 2 * rank + 2] = prediction.label, prediction.score
        model = result.model
        end = ["" if most is None else most.time_s, len(result.windows), result.video.duration_s]
        # Empty for a model without thresholds, like every value that an answer does not have.
        abstained = {True: "true", False: "false", None: ""}[result.abstained]
        return _row([answer.name, "", *labels, *end, model.name, model.version, abstained])

    def kept(self, text: str) -> Iterator[tuple[str, str]]:
        # A row that was cut inside its last field looks whole but for its line end.
        whole = text[: text.rfind("\n") + 1]
        rows = csv.reader(io.StringIO(whole, newline=""))
        if next(rows, self._columns) != self._columns:
            detail = "The file has other columns. Use the --top-k and the release with which it was written."
            raise ValueError(detail)
        for row in rows:
            if len(row) == len(self._columns) and is_of_video(row[1]):
                yield row[0], _row(row)


def _code(problem: dict[str, Any] | None) -> str:
    return "" if problem is None else str(problem["code"])


def _row(values: Iterable[Any]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


class Records:
    """Records written one by one, each with a single call, to standard output or to a file that outlives a kill."""

    def __init__(self, form: Format, file: IO[str]) -> None:
        self._form = form
        self._file = file

    def write(self, answer: Answer) -> None:
        """Write one record and bring it to the disk."""
        self._file.write(self._form.record(answer))
        self._file.flush()
        if self._file is not sys.stdout:
            os.fsync(self._file.fileno())


@contextmanager
def records(form: Format, output: Path | None, kept: Iterable[str] = ()) -> Iterator[Records]:
    """Write to `output`, which then begins with the records `kept`; to standard output where it is None."""
    if output is None:
        sys.stdout.write(form.header())
        yield Records(form, sys.stdout)
        return
    fresh = output.with_name(f".{output.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as file:
        file.write(form.header())
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
        # Until here the old file is whole.
        fresh.replace(output)
        yield Records(form, file)


def window_line(name: str, window: WindowResult) -> str:
    """One window of a file in a line: what it shows, and from when to when."""
    first = window.predictions[0]
    said = NOTHING_CLEAR if window.abstained else f"{first.label} {first.score:.3f}"
    return f"{name}: {window.start_s:.2f} to {window.end_s:.2f} s: {said}"


def print_table(answers: Iterable[Answer], console: Console) -> None:
    """Labels and scores of every file that was classified."""
    table = Table()
    for column in ("file", "label", "score", "threshold"):
        table.add_column(column, justify="left" if column in ("file", "label") else "right", overflow="fold")
    table.add_column("most attended at", justify="right")
    table.add_column("windows", justify="right")
    for answer in answers:
        if answer.result is None:
            continue
        result, most = answer.result, peak(answer.result)
        rows = [
            (p.label, f"{p.score:.3f}", "" if p.threshold is None else f"{p.threshold:.3f}", p.passes is False)
            for p in result.predictions
        ]
        if result.abstained:
            rows.insert(0, (NOTHING_CLEAR, "", "", False))
        for rank, (*cells, faint) in enumerate(rows):
            first = rank == 0
            table.add_row(
                escape(Path(answer.name).name) if first else "",
                *map(escape, cells),
                f"{most.time_s:.2f} s" if first and most else "",
                str(len(result.windows)) if first else "",
                style="dim" if faint else None,
            )
        table.add_section()
    console.print(table)
