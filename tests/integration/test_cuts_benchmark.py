"""The benchmark of cuts: videos whose cuts are known, and how what is said of them is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cuts import FPS, figures, joined, matched, merged, said, shown
from service.api.openapi_examples import RESULT_EXAMPLE
from service.contracts import JobResult
from testing.videos import Image, write_video


def answer(*windows: dict[str, Any]) -> JobResult:
    return JobResult.model_validate({**RESULT_EXAMPLE, "windows": windows})


def window(start_s: float, *labels: tuple[str, bool | None], peak: int = 2) -> dict[str, Any]:
    """Half a second of four frames; `peak` and then the frame after it count most."""
    shares = [0.1, 0.1, 0.1, 0.1]
    shares[peak], shares[peak + 1] = 0.5, 0.3
    attention = [
        {"time_s": start_s + slot / 8, "frame": slot, "score": share, "retention": 1.0}
        for slot, share in enumerate(shares)
    ]
    predictions = [{"label": label, "index": 0, "score": 0.5, "passes": passes} for label, passes in labels]
    return {"start_s": start_s, "end_s": start_s + 0.5, "predictions": predictions, "attention": attention}


def test_a_cut_is_said_where_its_label_holds_between_the_frames_that_counted_most() -> None:
    beside = window(1.0, ("pan_left", True), ("cut", True))
    below = window(2.0, ("pan_left", True), ("cut", False))
    assert said(answer(beside, below)) == [pytest.approx(1.0 + 2.5 / 8)]


def test_without_thresholds_only_the_first_label_counts() -> None:
    first, second = window(0.0, ("cut", None), ("fade", None)), window(1.0, ("fade", None), ("cut", None))
    assert said(answer(first, second)) == [pytest.approx(2.5 / 8)]


def test_the_shots_of_an_answer_show_cuts_and_no_other_beginnings() -> None:
    starts = (("start", 0.0), ("cut", 1.0), ("dissolve", 2.0), ("cut", 3.0))
    shots = [
        {"start_s": at, "end_s": at + 1, "key_s": at + 0.5, "transition": kind, "predictions": []}
        for kind, at in starts
    ]
    assert shown(JobResult.model_validate({**RESULT_EXAMPLE, "shots": shots})) == [1.0, 3.0]


def test_windows_that_overlap_say_a_cut_once() -> None:
    assert merged([2.0, 1.0, 1.2, 1.3]) == [1.0, 1.3, 2.0]


def test_each_cut_needs_a_time_of_its_own() -> None:
    assert matched([1.0, 1.2, 5.0], [1.1, 4.0]) == 1
    assert matched([1.0, 1.2], [1.1, 1.15]) == 2


def test_precision_recall_and_f1_come_from_the_same_counts() -> None:
    found = figures(3, truth=4, found=6)
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 0.75, 0.6)


def test_shots_are_joined_into_a_video_whose_cuts_are_known(tmp_path: Path) -> None:
    def shade(level: int) -> Path:
        def draw(number: int, width: int, height: int) -> Image:
            return np.full((height, width, 3), level, dtype=np.uint8)

        return write_video(tmp_path / f"{level}.mp4", 60, fps=25, size=(64, 48), draw=draw)

    out = tmp_path / "joined.mp4"
    cuts = joined([shade(level) for level in (40, 120, 200)], 3, np.random.default_rng(1), out)
    assert len(cuts) == 2
    assert all(round(cut * FPS) == pytest.approx(cut * FPS) for cut in cuts)
    pytest.importorskip("scenedetect")
    from benchmarks.cuts import detected

    assert detected(out) == [pytest.approx(cut, abs=1.5 / FPS) for cut in cuts]
