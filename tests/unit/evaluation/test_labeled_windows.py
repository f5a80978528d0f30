"""Tables of real windows, what a model answers, and the figures of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.contracts import Activation, ClipSpec
from service.evaluation.candidates import Candidate, among
from service.evaluation.labeled_windows import (
    Answer,
    LabeledWindow,
    answer_windows,
    decode_windows,
    read_answers,
    read_windows,
)
from service.evaluation.window_figures import window_figures, window_rows
from service.model.layers import NetworkOutput
from service.settings import Settings
from service.video.config import VideoLimits
from tests.unit.evaluation.scenes import write_still

LABELS = ("static", "pan_left", "cut")
HEAD = "file,start_s,end_s,truth,slow,weight,components\n"


def table(folder: Path, *rows: str, head: str = HEAD) -> Path:
    path = folder / "truth.csv"
    path.write_text(head + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


CLIP = ClipSpec(
    frames=8,
    frame_step=4,
    reference_fps=30.0,
    sampling="time",
    height=16,
    width=16,
    resize_short_side=18,
    resize="swscale_bilinear",
)


def saying(logits: list[float], activation: Activation) -> Candidate:
    def score(clips: Tensor) -> NetworkOutput:
        return NetworkOutput(
            torch.tensor([logits]).expand(len(clips), -1), *(torch.zeros(len(clips), 1) for _ in range(3))
        )

    return Candidate("camera", CLIP, LABELS, activation, score)


def window(truth: str, weight: float = 1.0, slow: bool = False, components: tuple[str, ...] = ()) -> LabeledWindow:
    return LabeledWindow(file="a", start_s=0, end_s=1, truth=truth, weight=weight, slow=slow, components=components)


def figures(*pairs: tuple[LabeledWindow, Answer]) -> dict[str, Any]:
    return window_figures([pair[0] for pair in pairs], [pair[1] for pair in pairs], LABELS)


def test_a_table_says_what_is_known_of_each_window(tmp_path: Path) -> None:
    path = table(tmp_path, "a.mp4,1.5,2.5,mixed,1,6.25,pan_left cut", "b.mp4,0,1,static,,,")
    mixed, still = read_windows(path)
    assert mixed == LabeledWindow(
        file="a.mp4", start_s=1.5, end_s=2.5, truth="mixed", slow=True, weight=6.25, components=("pan_left", "cut")
    )
    assert (still.slow, still.weight, still.components) == (False, 1.0, ())


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a.mp4,x,2,static,,,", "line 2: start_s is 'x', no number"),
        ("a.mp4,2,1,static,,,", "line 2: 2.0 to 1.0 s"),
        ("a.mp4,0,1,static,,0,", "weight 0.0 is no window"),
        ("a.mp4,0", "line 2 ends early"),
    ],
)
def test_a_row_that_is_no_window_is_named(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_windows(table(tmp_path, row))


def test_a_table_without_a_column_or_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column end_s, truth"):
        read_windows(table(tmp_path, "a,1", head="file,start_s\n"))
    with pytest.raises(ValueError, match="holds no window"):
        read_windows(table(tmp_path))


def test_answers_are_found_by_file_and_time_in_any_order(tmp_path: Path) -> None:
    windows = read_windows(table(tmp_path, "a.mp4,0,1.066667,static,,,", "a.mp4,1.066667,2.133333,cut,,,"))
    path = tmp_path / "other.csv"
    path.write_text("file,start_s,end_s,label,cpu_s\na.mp4,1.0666667,2.1333333,cut,0.5\na.mp4,0.0,1.0666667,,\n")
    assert read_answers(path, windows) == [Answer(""), Answer("cut", None, 0.5)]


def test_a_window_without_an_answer_is_named(tmp_path: Path) -> None:
    windows = read_windows(table(tmp_path, "a.mp4,0,1,static,,,"))
    path = tmp_path / "other.csv"
    path.write_text("file,start_s,end_s,label\na.mp4,1,2,cut\n")
    with pytest.raises(ValueError, match=r"other.csv says nothing of a.mp4 from 0.0 to 1.0 s"):
        read_answers(path, windows)


def test_windows_are_decoded_where_they_lie(tmp_path: Path) -> None:
    write_still(tmp_path / "a.mp4", 1, frames=80, panned=2)
    windows = [LabeledWindow(file="a.mp4", start_s=s, end_s=s + 32 / 30, truth="pan_right") for s in (0.0, 4 / 30, 1.0)]
    clips = decode_windows(windows, tmp_path, CLIP, Settings().subset(VideoLimits), lambda *_: None)
    assert clips.shape == (3, 8, 16, 16, 3)
    torch.testing.assert_close(clips[0, 1:], clips[1, :-1])
    assert not torch.equal(clips[0], clips[2])


def test_a_window_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    missing, broken = (LabeledWindow(file=name, start_s=3, end_s=4, truth="cut") for name in ("b.mp4", "a.mp4"))
    for one in (missing, broken):
        with pytest.raises(ValueError, match=rf"{one.file} at 3 s does not decode"):
            decode_windows([one], tmp_path, CLIP, Settings().subset(VideoLimits), lambda *_: None)


def test_a_model_with_classes_answers_with_the_likeliest() -> None:
    (answer,) = answer_windows(saying([0.0, 2.0, 1.0], "softmax"), torch.zeros(1, 8, 16, 16, 3), lambda *_: None)
    assert answer.label == "pan_left"
    assert answer.score == pytest.approx(0.6652, abs=1e-4)
    assert answer.cpu_s is not None


def test_a_model_with_independent_scores_says_nothing_where_none_is_likely() -> None:
    clip = torch.zeros(1, 8, 16, 16, 3)
    assert answer_windows(saying([-2.0, -0.1, -1.0], "sigmoid"), clip, lambda *_: None)[0].label == ""
    assert answer_windows(saying([-2.0, 0.1, -1.0], "sigmoid"), clip, lambda *_: None)[0].label == "pan_left"


def test_a_label_holds_from_its_own_threshold_on() -> None:
    thresholds = (0.1, 0.9, 0.5)
    candidate = replace(saying([-2.0, 2.0, -1.0], "sigmoid"), thresholds=thresholds)
    (answer,) = answer_windows(candidate, torch.zeros(1, 8, 16, 16, 3), lambda *_: None)
    assert answer.label == "static"
    assert answer.score == pytest.approx(0.1192, abs=1e-4)


def test_windows_in_which_a_frame_stands_out_are_counted_by_their_truth() -> None:
    truths = ("cut", "cut", "static", "mixed")
    said = [Answer("cut", stands_out=named) for named in (True, False, False, True)]
    figures = window_figures([window(truth) for truth in truths], said, LABELS)
    found = {label: (share["hits"], share["count"]) for label, share in figures["stands_out"].items()}
    assert found == {"static": (0, 1), "cut": (1, 2)}
    assert ["a frame stands out: windows of cut", "50.0 % (9.5 - 90.5; 1 of 2)"] in window_rows({"model": figures})
    assert "stands_out" not in str(window_rows({"tracker": window_figures([window("cut")], [Answer("cut")], LABELS)}))


def test_the_attention_of_a_clip_says_whether_a_frame_stands_out() -> None:
    for shares, named in (([0.2, 0.4, 0.2, 0.2], True), ([0.2, 0.39, 0.2, 0.21], False)):

        def score(clips: Tensor, shares: list[float] = shares) -> NetworkOutput:
            return NetworkOutput(torch.zeros(1, 3), torch.tensor([shares]), *[torch.zeros(1, 1)] * 2)

        candidate = Candidate("camera", CLIP, LABELS, "softmax", score)
        (answer,) = answer_windows(candidate, torch.zeros(1, 8, 16, 16, 3), lambda *_: None)
        assert answer.stands_out is named


def test_a_candidate_with_more_labels_is_asked_for_some_in_their_order() -> None:
    more = replace(saying([1.0, 2.0, 3.0], "sigmoid"), thresholds=(0.1, 0.2, 0.3), qualifiers=("pan_left",))
    some = among(more, ("cut", "static"))
    assert (some.labels, some.thresholds, some.qualifiers) == (("cut", "static"), (0.3, 0.1), ())
    assert some.score(torch.zeros(2, 8, 16, 16, 3)).logits.tolist() == [[3.0, 1.0]] * 2
    with pytest.raises(ValueError, match="camera has no label fade"):
        among(more, ("cut", "fade"))


def test_how_the_camera_is_held_is_no_answer() -> None:
    held = replace(
        saying([-2.0, 0.5, 3.0], "sigmoid"), labels=("static", "pan_left", "handheld"), qualifiers=("handheld",)
    )
    (answer,) = answer_windows(held, torch.zeros(1, 8, 16, 16, 3), lambda *_: None)
    assert answer.label == "pan_left"
    assert answer.score == pytest.approx(0.6225, abs=1e-4)


def test_accuracy_counts_windows_with_a_single_truth_plain_and_weighted() -> None:
    found = figures(
        (window("static", weight=9), Answer("static")),
        (window("cut"), Answer("static")),
        (window("pan_left", slow=True), Answer("")),
        (window("unclear"), Answer("cut")),
    )
    assert (found["accuracy"]["hits"], found["accuracy"]["count"]) == (1, 3)
    assert found["weighted"]["share"] == pytest.approx(9 / 11)
    assert (found["slow"]["hits"], found["slow"]["count"]) == (0, 1)
    assert found["abstained"]["share"] == pytest.approx(1 / 3)
    assert found["called"] == {"unclear": {"cut": 1}}


def test_precision_and_recall_are_told_of_each_label() -> None:
    found = figures(
        (window("static"), Answer("static")),
        (window("static"), Answer("cut")),
        (window("cut"), Answer("cut")),
    )
    assert {name: share["share"] for name, share in found["recall"].items()} == {"static": 0.5, "cut": 1.0}
    assert {name: share["share"] for name, share in found["precision"].items()} == {"static": 1.0, "cut": 0.5}


def test_of_windows_with_several_motions_a_part_or_nothing_is_right() -> None:
    parts = ("pan_left", "cut")
    found = figures(
        (window("mixed", components=parts), Answer("cut")),
        (window("mixed", components=parts), Answer("static")),
        (window("mixed"), Answer("pan_left")),
        (window("hand"), Answer("")),
        (window("hand"), Answer("hand")),
    )
    assert found["several"]["right_or_abstained"]["hits"] == 3
    assert found["several"]["abstained"]["hits"] == 2
    assert found["several"]["abstained"]["count"] == 5


def test_confident_answers_and_calibration_are_told_where_there_are_scores() -> None:
    found = figures(
        (window("static"), Answer("static", 0.95)),
        (window("static"), Answer("cut", 0.92)),
        (window("cut"), Answer("cut", 0.5)),
    )
    assert (found["confident"]["hits"], found["confident"]["count"]) == (1, 2)
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.935) + 0.5) / 3, abs=1e-6)
    assert "ece" not in figures((window("static"), Answer("static")))


def test_the_table_has_a_column_for_each_method() -> None:
    ours = figures((window("static"), Answer("static", 0.8, 0.01)))
    theirs = figures((window("static"), Answer("pan_left")))
    rows = {row[0]: row[1:] for row in window_rows({"ours": ours, "theirs": theirs})}
    assert rows["figure"] == ["ours", "theirs"]
    assert rows["precision of static"][0].startswith("100.0 %")
    assert rows["precision of static"][1] == "-"
    assert rows["CPU seconds a window"] == ["0.0100", "-"]
