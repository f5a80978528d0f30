"""Figures and report of an evaluation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.training.evaluate import Evaluation
from service.training.run_report import line_chart, write_report
from service.training.sources import Examples

VIEWS = torch.tensor(
    [  # Two videos of class 0, three windows each: the first is right from the start, the second from two windows on.
        [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]],
        [[0.4, 0.6], [0.5, 0.5], [0.9, 0.1]],
    ]
)


def evaluation(views: Tensor = VIEWS) -> Evaluation:
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    none = torch.full((2,), -1)
    return Evaluation(views.mean(1), targets, False, none, none, views)


def test_accuracy_is_given_by_the_number_of_windows() -> None:
    assert evaluation().by_windows() == {1: 0.5, 2: 1.0, 3: 1.0}


def test_crops_of_a_window_stay_together() -> None:
    # Each window twice: as two crops of three windows.
    assert evaluation(VIEWS.repeat_interleave(2, 1)).by_windows(crops=2) == {1: 0.5, 2: 1.0, 3: 1.0}


def test_without_scores_of_views_nothing_is_said_of_windows() -> None:
    whole = evaluation()
    assert Evaluation(whole.scores, whole.targets, False, whole.cut, whole.attention_peak).by_windows() == {}


def test_a_chart_has_a_point_for_each_number_and_rises_with_the_share() -> None:
    chart = line_chart({1: 0.5, 2: 0.75, 3: 1.0}, "windows", "top-1")
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert len(heights) == 3
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("shares", [{1: 0.0}, {1: 1.0, 2: 1.0}, {4: 0.5}])
def test_a_chart_of_equal_shares_can_be_drawn(shares: dict[int, float]) -> None:
    assert "nan" not in line_chart(shares, "windows", "top-1")


def test_the_report_draws_several_windows(tmp_path: Path) -> None:
    clips = torch.zeros(3, 2, 4, 4, 3, dtype=torch.uint8)
    examples = [Examples(clips, torch.tensor([[1.0, 0.0]]), torch.tensor([-1])) for _ in range(2)]
    write_report(tmp_path / "report.html", "a run", ("yes", "no"), evaluation(), examples)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "100.0 % (34.2 - 100.0; 2 of 2)" in page
