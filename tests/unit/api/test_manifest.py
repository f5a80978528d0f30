"""Manifests: what a line may be, and what is said of one that is wrong."""

import json
from typing import Any

import pytest

from service.api.batches.manifest import ManifestLimits, read_manifest
from service.api.problems import problem_body
from service.api.schemas import ClassifyOptions
from service.contracts import BatchLine, JobRequest
from service.errors import InvalidManifest, SourceNotAllowed, UnsupportedMediaType

LIMITS = ManifestLimits(max_batch_lines=30, max_manifest_bytes=10_000)
URL = "https://example.com/film.mp4"


def check(url: str, options: JobRequest) -> None:
    if not url.startswith(("https://example.com/", "s3://films/")):
        raise SourceNotAllowed("Nothing is fetched from there.", actual=url)


def read(body: str | bytes, kind: str = "application/jsonl", **common: Any) -> list[BatchLine]:
    given = body.encode() if isinstance(body, str) else body
    return read_manifest(kind, given, ClassifyOptions(**common), LIMITS, check)


def refused(body: str | bytes, kind: str = "application/jsonl") -> InvalidManifest:
    with pytest.raises(InvalidManifest) as caught:
        read(body, kind)
    return caught.value


def line(**more: Any) -> str:
    return json.dumps({"source": {"url": URL}, **more})


def test_each_line_of_jsonl_names_a_video() -> None:
    body = "\ufeff" + line(id="a") + "\r\n\n" + line(source={"url": "s3://films/ü\u2028.mp4"}) + "\n"
    assert [(one.line, one.id, one.url) for one in read(body, "application/x-ndjson")] == [
        (1, "a", URL),
        (3, None, "s3://films/ü\u2028.mp4"),
    ]


def test_options_of_a_line_go_before_those_of_the_query() -> None:
    body = "\n".join(
        [line(), line(options={"top_k": 3, "windows": "all"}), line(options={"stride": 0.5, "windows": "all"})]
    )
    plain, first, second = read(body, top_k=7, crops=3)
    assert plain.options == JobRequest(top_k=7, crops=3)
    assert first.options == JobRequest(top_k=3, crops=3, windows="all")
    assert second.options == JobRequest(top_k=7, crops=3, windows="all", stride=0.5)


def test_columns_of_a_csv_are_a_url_an_id_and_options_whose_cells_may_be_empty() -> None:
    body = f'id,url,windows,top_k\r\n"a, b",{URL},all,\n,s3://films/b.mp4,2,3\n,,,\n'
    first, second = read(body, "text/csv", top_k=7)
    assert (first.line, first.id, first.url) == (2, "a, b", URL)
    assert first.options == JobRequest(windows="all", top_k=7)
    assert (second.line, second.id, second.options) == (3, None, JobRequest(windows=2, top_k=3))


@pytest.mark.parametrize(
    ("bad", "detail", "limit", "actual"),
    [
        ("{", "It is no JSON: Expecting property name enclosed in double quotes.", None, None),
        ("[1]", "It is no JSON object: '[1]'.", None, None),
        ("[" * 100_000, "It is no JSON: nested too deeply.", None, None),
        ('{"id": "a"}', "`source`: Field required.", None, None),
        (line(source={"url": "ftp://x"}), "Nothing is fetched from there.", None, "ftp://x"),
        (
            line(options={"top_k": 5000}),
            "`top_k`: Input should be less than or equal to 1000; it is '5000'.",
            1000,
            5000,
        ),
        (
            line(options={"top_k": "1_0"}),
            "`top_k`: Input should be a number in digits, such as 5; it is '1_0'.",
            None,
            "1_0",
        ),
        (line(options={"size": 1}), "`size`: Extra inputs are not permitted; it is '1'.", None, 1),
        (line(id="x" * 257), "`id`: String should have at most 256 characters; it is '257'.", 256, 257),
        (line(videos=1), "`videos`: Extra inputs are not permitted; it is '1'.", None, 1),
    ],
)
def test_a_wrong_line_is_told_by_its_number_the_limit_and_the_actual_value(
    bad: str, detail: str, limit: object, actual: object
) -> None:
    error = refused(f"{line()}\n\n{bad}\n{line()}")
    [told] = error.lines
    assert (told.line, told.detail, told.limit, told.actual) == (3, detail, limit, actual)
    assert error.detail == f"1 line is not valid, so no line was accepted. Line 3: {detail}"


def test_of_many_wrong_lines_the_first_twenty_are_told_and_all_are_counted() -> None:
    error = refused("{}\n" * 25)
    assert (error.limit, error.actual) == (0, 25)
    assert [told.line for told in error.lines] == [*range(1, 21)]
    assert error.detail.endswith(" 5 more lines are wrong.")
    body = problem_body(error, "request")
    assert body["lines"][3] == {"line": 4, "detail": "`source`: Field required."}


def test_an_id_is_given_once() -> None:
    [told] = refused("\n".join([line(id="a"), line(), line(id="a")])).lines
    assert (told.line, told.detail) == (3, "The id 'a' is that of line 1 already.")


@pytest.mark.parametrize(
    ("body", "number", "detail"),
    [
        ("id,top_k\na,1\n", 1, "The first line must name the columns, of which one is `url`."),
        ("url,url\na,1\n", 1, "The column 'url' is named twice."),
        (f"url,id\n{URL}\n", 2, "It has 1 cells; the first line names 2 columns."),
        (f'url,id\n{URL},a\n{URL},"a"b"\n', 3, "It is no CSV: ',' expected after '\"'."),
        ("url,id\n,a\n", 2, "Nothing is fetched from there."),
        (b"url\n\xff\n", 2, "It is no UTF-8."),
    ],
)
def test_a_wrong_csv_is_told_by_the_line(body: str | bytes, number: int, detail: str) -> None:
    [told] = refused(body, "text/csv").lines
    assert (told.line, told.detail) == (number, detail)


def test_a_column_that_is_no_option_is_named_with_those_that_are() -> None:
    [told] = refused("url,fps\n", "text/csv").lines
    assert told.detail.startswith("The column 'fps' is unknown. Use url, id, model, ")


@pytest.mark.parametrize(("lines", "limit"), [(0, 1), (31, 30)])
def test_a_manifest_has_as_many_lines_as_allowed_and_one_at_least(lines: int, limit: int) -> None:
    error = refused(f"{line()}\n" * lines)
    assert (error.limit, error.actual) == (limit, lines)


def test_a_manifest_of_another_type_is_not_read() -> None:
    with pytest.raises(UnsupportedMediaType, match="application/jsonl, application/x-ndjson, text/csv"):
        read("x", "application/json")
