import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.api.openapi_examples import RESULT_EXAMPLE
from service.cli.answers import Answer, Csv, Format, JsonLines, may_pass, print_table, records
from service.contracts import JobResult
from service.errors import QueueFull, Undecodable, VideoTooShort

RESULT = JobResult.model_validate(RESULT_EXAMPLE)
GOOD = Answer("holiday, part 1.mp4", result=RESULT)
ODD = Answer('line\nbreak and "quotes".mp4', result=RESULT)
REFUSED = Answer.failed("short.mp4", VideoTooShort("too short", limit=4, actual=2))
LATER = Answer.failed("later.mp4", QueueFull("full"))

FORMATS: list[Format] = [JsonLines(), Csv(3)]
IDS = ["jsonl", "csv"]


def written(form: Format, path: Path, *answers: Answer, kept: dict[str, str] | None = None) -> str:
    with records(form, path, (kept or {}).values()) as sink:
        for answer in answers:
            sink.write(answer)
    return path.read_text(encoding="utf-8")


def names(form: Format, text: str) -> list[str]:
    return [name for name, _ in form.kept(text)]


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_later_run_keeps_what_says_something_of_the_video(form: Format, tmp_path: Path) -> None:
    text = written(form, tmp_path / "out", GOOD, LATER, ODD, REFUSED)
    assert names(form, text) == [GOOD.name, ODD.name, REFUSED.name]


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_file_cut_at_any_byte_is_gone_on_with_and_holds_each_video_once(form: Format, tmp_path: Path) -> None:
    answers = {answer.name: answer for answer in (GOOD, ODD, REFUSED)}
    whole = written(form, tmp_path / "out", *answers.values())
    last = form.record(REFUSED)
    for length in range(len(whole) - len(last) - 5, len(whole) + 1):
        kept = dict(form.kept(whole[:length]))
        rest = [answer for name, answer in answers.items() if name not in kept]
        assert sorted(names(form, written(form, tmp_path / "again", *rest, kept=kept))) == sorted(answers)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_kept_record_is_written_as_it_was(form: Format, tmp_path: Path) -> None:
    text = written(form, tmp_path / "out", GOOD, ODD, REFUSED)
    assert written(form, tmp_path / "again", kept=dict(form.kept(text))) == text


def test_rows_have_a_column_for_every_label_that_was_asked_for(tmp_path: Path) -> None:
    text = written(Csv(2), tmp_path / "out", GOOD, REFUSED)
    good, refused = csv.DictReader(text.splitlines())
    assert (good["file"], good["label_1"], good["score_1"], good["label_2"]) == (GOOD.name, "pan_left", "0.93", "")
    assert (good["most_attended_s"], good["model"], good["abstained"]) == ("0.5", "camera_motion", "false")
    assert (refused["error"], refused["label_1"]) == ("video_too_short", "")


UNSURE = {**RESULT_EXAMPLE, "abstained": True}
UNSURE["predictions"] = [{"label": "pan_left", "index": 1, "score": 0.3, "threshold": 0.41, "passes": False}]


def test_a_row_and_the_table_say_that_no_label_passes(tmp_path: Path) -> None:
    unsure = Answer("unsure.mp4", result=JobResult.model_validate(UNSURE))
    (row,) = csv.DictReader(written(Csv(2), tmp_path / "out", unsure).splitlines())
    assert (row["label_1"], row["abstained"]) == ("pan_left", "true")
    printed = io.StringIO()
    print_table([unsure, GOOD], Console(file=printed, width=120))
    lines = [line.split("│")[1:-1] for line in printed.getvalue().splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line[:4]] for line in lines]
    assert cells == [
        ["unsure.mp4", "no clear motion", "", ""],
        ["", "pan_left", "0.300", "0.410"],
        [GOOD.name, "pan_left", "0.930", "0.410"],
    ]


def test_no_moment_is_named_where_attention_is_flat(tmp_path: Path) -> None:
    window = RESULT_EXAMPLE["windows"][0]
    even = [{**frame, "score": 0.5} for frame in window["attention"]]
    flat = JobResult.model_validate({**RESULT_EXAMPLE, "windows": [{**window, "attention": even}]})
    (row,) = csv.DictReader(written(Csv(1), tmp_path / "out", Answer("flat.mp4", result=flat)).splitlines())
    assert row["most_attended_s"] == ""


def test_rows_of_another_number_of_labels_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="--top-k"):
        list(Csv(2).kept(Csv(3).header()))


def test_a_line_holds_the_whole_answer_or_the_problem() -> None:
    good: dict[str, Any] = json.loads(JsonLines().record(GOOD))
    assert good.pop("file") == GOOD.name
    assert good == RESULT_EXAMPLE
    assert json.loads(JsonLines().record(REFUSED)) == {
        "file": "short.mp4",
        "error": {"code": "video_too_short", "detail": "too short", "limit": 4, "actual": 2},
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError("missing"), "unreadable_file"),
        (Undecodable("damaged"), "undecodable"),
    ],
)
def test_a_failure_has_the_code_of_its_cause(error: Exception, code: str) -> None:
    assert Answer.failed("x", error).problem == {"code": code, "detail": str(error)}


def test_only_what_says_nothing_of_the_video_may_pass() -> None:
    assert [may_pass(code) for code in ("queue_full", "internal_error", "server_unreachable", "unreadable_file")] == [
        True
    ] * 4
    assert not any(may_pass(code) for code in ("undecodable", "invalid_option", ""))


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
@pytest.mark.parametrize("code", ["unauthorized", "forbidden", "not_found", "upload_too_large", "unknown_model", "new"])
def test_what_was_refused_for_something_else_than_the_video_is_tried_by_a_later_run(
    form: Format, tmp_path: Path, code: str
) -> None:
    wrong = Answer("wrong.mp4", problem={"code": code, "detail": "The server answered."})
    assert names(form, written(form, tmp_path / "out", GOOD, wrong, REFUSED)) == [GOOD.name, REFUSED.name]


def test_names_and_labels_are_shown_as_they_are_spelled(tmp_path: Path) -> None:
    odd = Answer("[bold]clip.mp4", result=RESULT)
    console = Console(file=io.StringIO(), width=200)
    print_table([odd], console)
    assert isinstance(console.file, io.StringIO)
    assert odd.name in console.file.getvalue()
