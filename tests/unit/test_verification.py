"""Which changes of an answer are found, and which are left open."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.openapi_examples import RESULT_EXAMPLE
from service.contracts import JobRequest, JobResult
from service.verification import differences


def result(**changes: Any) -> JobResult:
    return JobResult.model_validate({**RESULT_EXAMPLE, **changes})


def labels(*scores: tuple[str, float], threshold: float | None = None) -> list[dict[str, Any]]:
    def judged(score: float) -> dict[str, Any]:
        return {} if threshold is None else {"threshold": threshold, "passes": score >= threshold}

    return [{"label": label, "index": ord(label[0]), "score": score, **judged(score)} for label, score in scores]


def where(answered: JobResult, computed: JobResult, tolerance: float = 1e-3, **options: Any) -> list[str]:
    asked = JobRequest.model_validate(options)
    return [difference.where for difference in differences(answered, computed, asked, tolerance)]


def test_an_answer_agrees_with_itself_whatever_belongs_to_one_run() -> None:
    other_run = {"id": "other", "timings_ms": {**RESULT_EXAMPLE["timings_ms"], "total": 9.0}}
    assert where(result(), result(**other_run)) == []


def computed_in(arithmetic: str) -> JobResult:
    return result(model={**RESULT_EXAMPLE["model"], "arithmetic": arithmetic})


def test_another_arithmetic_is_found_and_left_open_by_an_answer_of_an_earlier_release() -> None:
    earlier = result(model={name: value for name, value in RESULT_EXAMPLE["model"].items() if name != "arithmetic"})
    assert where(computed_in("bf16"), computed_in("fp32")) == ["model.arithmetic"]
    assert where(earlier, computed_in("fp32")) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"model": {**RESULT_EXAMPLE["model"], "weights_sha256": "0" * 64}}, "model.weights_sha256"),
        ({"model": {**RESULT_EXAMPLE["model"], "version": "9"}}, "model.version"),
        ({"video": {**RESULT_EXAMPLE["video"], "width": 641}}, "video.width"),
        ({"coverage": 0.9}, "coverage"),
        ({"windows": []}, "windows, their number"),
        ({"abstained": True}, "abstained"),
        ({"events": []}, "events, their number"),
    ],
)
def test_a_changed_field_is_found(change: dict[str, Any], place: str) -> None:
    assert where(result(**change), result()) == [place]


def explained(contribution: float, engine_ms: float = 5.0, *, enough: bool = True) -> JobResult:
    """The answer with evidence of one frame."""
    frame = {"time_s": 0.0, "frame": 0, "contribution": contribution, "enough": enough}
    cause = {"label": "a", "score": 0.9, "still_score": 0.1, "error": 0.0, "forwards": 2, "engine_ms": engine_ms}
    [window] = RESULT_EXAMPLE["windows"]
    return result(windows=[{**window, "evidence": {**cause, "frames": [frame]}}])


def test_a_changed_contribution_of_a_frame_is_found_and_evidence_that_is_gone_too() -> None:
    assert where(explained(0.81), explained(0.8)) == ["windows[0].evidence.frames[0].contribution"]
    assert where(result(), explained(0.8)) == ["windows[0].evidence"]


def test_what_evidence_cost_and_which_of_equal_sets_it_names_belong_to_one_run() -> None:
    assert where(explained(0.8, 5.0), explained(0.8, 9.0, enough=False)) == []


def test_a_label_that_took_the_place_of_another_is_found_whatever_its_score() -> None:
    all_labels = labels(("pan", 0.93), ("tilt", 0.04), ("zoom", 0.03))
    answered = result(predictions=labels(("tilt", 0.93)))
    found = where(answered, result(predictions=all_labels), top_k=1)
    assert found == ["predictions[tilt].score", "predictions[tilt]", "predictions[pan]"]


def test_a_label_that_the_model_does_not_have_is_found() -> None:
    answered = result(predictions=labels(("dolly", 0.93)))
    assert "predictions[dolly]" in where(answered, result(predictions=labels(("pan", 0.93))), top_k=1)


def test_a_label_that_is_left_out_or_said_twice_is_found() -> None:
    both = labels(("pan", 0.6), ("tilt", 0.4))
    assert where(result(predictions=both[1:]), result(predictions=both)) == ["predictions[pan]"]
    assert where(result(predictions=[*both, both[0]]), result(predictions=both))[0] == "predictions, their number"


def test_a_list_may_be_as_short_as_its_options_say() -> None:
    several = labels(("a", 0.6), ("b", 0.3), ("c", 0.1))
    assert where(result(predictions=several[:2]), result(predictions=several), top_k=2) == []
    assert where(result(predictions=several[:2]), result(predictions=several), min_score=0.2) == []
    assert where(result(predictions=several[:1]), result(predictions=several), top_k=2) == ["predictions[b]"]


def test_the_time_of_a_frame_is_found() -> None:
    [window] = RESULT_EXAMPLE["windows"]
    first, *others = window["attention"]
    moved = {**window, "attention": [{**first, "time_s": first["time_s"] + 0.04}, *others]}
    assert where(result(windows=[moved]), result()) == ["windows[0].attention[0].time_s"]


def test_a_score_is_found_from_the_tolerance_on() -> None:
    lower = result(predictions=labels(("p", 0.9312)))
    assert where(lower, result(predictions=labels(("p", 0.93)))) == ["predictions[p].score"]
    assert where(lower, result(predictions=labels(("p", 0.93))), tolerance=0.01) == []


def test_a_score_that_is_no_number_is_found() -> None:
    nan = result(predictions=labels(("p", float("nan"))))
    assert where(nan, result(predictions=labels(("p", 0.93)))) == ["predictions[p].score"]


def test_labels_whose_scores_are_apart_have_one_order() -> None:
    right, wrong = labels(("a", 0.8), ("b", 0.3)), labels(("b", 0.3), ("a", 0.8))
    assert where(result(predictions=wrong), result(predictions=right)) == ["predictions, their order"]


def test_labels_with_equal_scores_may_change_places_and_one_may_leave_the_list() -> None:
    one, other = labels(("a", 0.5), ("b", 0.4999)), labels(("b", 0.5), ("a", 0.4999))
    assert where(result(predictions=one), result(predictions=other)) == []
    every = labels(("a", 0.8), ("b", 0.2), ("c", 0.1999))
    assert where(result(predictions=labels(("a", 0.8), ("c", 0.1999))), result(predictions=every), top_k=2) == []


def test_what_follows_from_a_label_beside_its_threshold_is_left_open() -> None:
    above, below = labels(("p", 0.4104), threshold=0.41), labels(("p", 0.4099), threshold=0.41)
    assert where(result(predictions=above, abstained=False), result(predictions=below, abstained=True)) == []
    clear = labels(("p", 0.9), threshold=0.41)
    assert where(result(predictions=clear, abstained=True), result(predictions=clear)) == ["abstained"]
