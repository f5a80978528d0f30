"""From which score on a label holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.training.thresholds import precise_thresholds, read_thresholds, write_thresholds


def of(scores: list[float], held: list[float], precision: float) -> float:
    (threshold,) = precise_thresholds(torch.tensor(scores)[:, None], torch.tensor(held)[:, None], precision)
    return round(threshold, 4)


def test_the_lowest_score_that_is_precise_enough_is_taken() -> None:
    scores, held = [0.9, 0.8, 0.7, 0.6, 0.5], [1.0, 1, 0, 1, 0]
    assert of(scores, held, 1.0) == 0.8
    assert of(scores, held, 0.75) == 0.6
    assert of(scores, held, 0.6) == 0.5


def test_equal_scores_stand_or_fall_together() -> None:
    assert of([0.9, 0.5, 0.5, 0.5], [1.0, 1, 0, 0], 0.6) == 0.9


def test_a_label_that_is_never_precise_gets_its_best() -> None:
    assert of([0.9, 0.8, 0.7], [0.0, 1, 0], 0.9) == 0.8


def test_a_label_that_never_holds_gets_a_half_and_no_threshold_is_extreme() -> None:
    assert of([0.9, 0.2], [0.0, 0.0], 0.9) == 0.5
    assert of([0.999, 0.998], [1.0, 1.0], 0.9) == 0.95
    assert of([0.01, 0.02], [1.0, 1.0], 0.9) == 0.1


def test_thresholds_are_kept_by_name(tmp_path: Path) -> None:
    assert read_thresholds(tmp_path, ("a",)) == ()
    write_thresholds(tmp_path, ("a", "b"), (0.25, 0.75))
    assert read_thresholds(tmp_path, ("b", "a")) == (0.75, 0.25)
    with pytest.raises(ValueError, match=r"no threshold of c"):
        read_thresholds(tmp_path, ("a", "c"))
