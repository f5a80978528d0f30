"""A manifest: videos by reference, a line each, as JSONL or CSV. It is accepted as a whole or refused as a whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.schemas import ClassifyOptions, Source
from service.contracts import BatchLine, JobRequest
from service.errors import BadLine, InvalidManifest, UnsupportedMediaType, VidtrError, sentence

JSONL_TYPES = ("application/jsonl", "application/x-ndjson")
CSV_TYPE = "text/csv"
MAX_ID = 256
# Bad lines that an answer tells of.
TOLD = 20


class ManifestLine(BaseModel):
    """One line of a manifest in JSONL."""

    model_config = ConfigDict(extra="forbid")

    source: Source
    id: str | None = Field(None, min_length=1, max_length=MAX_ID, description="what you call it; results repeat it")
    options: dict[str, str | int | float | None] = Field(
        {}, description="options of this line, over those of the query"
    )


@dataclass(frozen=True)
class ManifestLimits:
    """Field names equal those of `service.settings.Settings`."""

    max_batch_lines: int
    max_manifest_bytes: int


@dataclass
class _Reading:
    """The lines that are good, and what is wrong with the others."""

    common: Mapping[str, Any]
    check: Callable[[str, JobRequest], None]
    good: list[BatchLine] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    options: dict[str, JobRequest] = field(default_factory=dict)

    def add(self, number: int, read: Callable[[], ManifestLine]) -> None:
        """Take one line, or note what is wrong with it."""
        try:
            given = read()
            options = self._options(given.options)
            self.check(given.source.url, options)
        except ValidationError as error:
            self.bad.append(_bad(number, error))
        except VidtrError as error:
            self.bad.append(BadLine(number, error.detail, error.limit, error.actual))
        except (json.JSONDecodeError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            self.bad.append(BadLine(number, f"It is no JSON: {said}."))
        else:
            self._keep(number, given, options)

    def _keep(self, number: int, given: ManifestLine, options: JobRequest) -> None:
        if given.id is not None and (first := self.ids.setdefault(given.id, number)) != number:
            detail = f"The id {given.id!r} is that of line {first} already."
            self.bad.append(BadLine(number, detail, limit=first, actual=given.id))
            return
        self.good.append(BatchLine(line=number, url=given.source.url, id=given.id, options=options))

    def _options(self, given: Mapping[str, Any]) -> JobRequest:
        # Most lines of a manifest have the same options.
        key = json.dumps(given, sort_keys=True)
        if key not in self.options:
            said = {name: value for name, value in given.items() if value is not None}
            checked = ClassifyOptions.model_validate({**self.common, **said})
            self.options[key] = JobRequest.model_validate(checked.model_dump())
        return self.options[key]


def read_manifest(
    media_type: str,
    body: bytes,
    common: ClassifyOptions,
    limits: ManifestLimits,
    check: Callable[[str, JobRequest], None],
) -> list[BatchLine]:
    """The lines of a manifest.

    Args:
        media_type: JSONL or CSV.
        body: the manifest.
        common: options of the query, which hold where a line has none of its own.
        limits: what one manifest may have.
        check: raises VidtrError for a URL, or options, that this service would refuse.

    Raises:
        InvalidManifest: naming the first bad lines; nothing of the manifest is to be accepted.
        UnsupportedMediaType: it is neither JSONL nor CSV.
    """
    reading = _Reading(common.model_dump(exclude_unset=True), check)
    if media_type in JSONL_TYPES:
        lines = _jsonl(body)
    elif media_type == CSV_TYPE:
        lines = _csv(body)
    else:
        kinds = ", ".join((*JSONL_TYPES, CSV_TYPE))
        detail = f"Content type {media_type!r} is not accepted. Send a manifest as one of {kinds}."
        raise UnsupportedMediaType(detail, limit=kinds, actual=media_type)
    count = 0
    for number, read in lines:
        count += 1
        if count <= limits.max_batch_lines:
            reading.add(number, read)
    if count > limits.max_batch_lines:
        detail = f"The manifest has {count} lines; the limit is {limits.max_batch_lines}. Divide it into several."
        raise InvalidManifest(detail, limit=limits.max_batch_lines, actual=count)
    if reading.bad:
        raise InvalidManifest.of(reading.bad, most=TOLD)
    if not reading.good:
        raise InvalidManifest("The manifest names no video: it has 0 lines. Send at least 1.", limit=1, actual=0)
    return reading.good


Lines = Iterator[tuple[int, Callable[[], ManifestLine]]]


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = body.count(b"\n", 0, error.start) + 1
        raise InvalidManifest.of([BadLine(number, "It is no UTF-8.")], most=TOLD) from error


def _jsonl(body: bytes) -> Lines:
    # Other ends of lines, such as U+2028, may stand within a text of JSON.
    for number, line in enumerate(_text(body).split("\n"), 1):
        if line.strip():
            yield number, lambda line=line: _of_json(line)  # type: ignore[misc]


def _of_json(line: str) -> ManifestLine:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise InvalidManifest(f"It is no JSON object: {line[:80]!r}.")
    return ManifestLine.model_validate(found)


def _csv(body: bytes) -> Lines:
    rows = csv.reader(io.StringIO(_text(body), newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(rows, [])]
        _check_columns(columns)
        for row in rows:
            if any(cell.strip() for cell in row):
                yield rows.line_num, lambda row=row: _of_row(columns, row)  # type: ignore[misc]
    except csv.Error as error:
        raise InvalidManifest.of(
            [BadLine(rows.line_num, f"It is no CSV: {sentence(str(error))}")], most=TOLD
        ) from error


def _check_columns(columns: list[str]) -> None:
    known = ("url", "id", *ClassifyOptions.model_fields)
    if "url" not in columns:
        detail = "The first line must name the columns, of which one is `url`."
    elif unknown := [name for name in columns if name not in known]:
        detail = f"The column {unknown[0]!r} is unknown. Use {', '.join(known)}."
    elif twice := [name for name in columns if columns.count(name) > 1]:
        detail = f"The column {twice[0]!r} is named twice."
    else:
        return
    raise InvalidManifest.of([BadLine(1, detail, limit="url", actual=",".join(columns)[:200])], most=TOLD)


def _of_row(columns: list[str], row: list[str]) -> ManifestLine:
    if len(row) != len(columns):
        detail = f"It has {len(row)} cells; the first line names {len(columns)} columns."
        raise InvalidManifest(detail, limit=len(columns), actual=len(row))
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=True) if cell.strip()}
    given: dict[str, Any] = {"source": {"url": cells.pop("url", "")}, "options": cells}
    if (called := cells.pop("id", None)) is not None:
        given["id"] = called
    return ManifestLine.model_validate(given)


def _bad(number: int, error: ValidationError) -> BadLine:
    first = error.errors(include_url=False)[0]
    # Behind the name are places within its type.
    where = ".".join(part for part in map(str, first["loc"]) if part.isidentifier() and part not in ("str", "int"))
    context = first.get("ctx", {})
    bounds = [context[name] for name in ("le", "lt", "ge", "gt", "max_length", "min_length") if name in context]
    limit = bounds[0] if bounds and isinstance(bounds[0], int | float | str) else None
    given = first.get("input")
    actual = given if isinstance(given, int | float | str) else None
    if context.get("max_length") is not None and isinstance(actual, str):
        actual = len(actual)
    at = f"`{where}`: " if where else ""
    shown = "" if actual is None else f"; it is {str(actual)[:80]!r}"
    return BadLine(number, f"{at}{first['msg']}{shown}.", limit, actual if not isinstance(actual, str) else actual[:80])
