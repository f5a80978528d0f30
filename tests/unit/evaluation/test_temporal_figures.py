"""How events are compared with what is known of a video."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from service.contracts import Prediction, WindowResult
from service.evaluation.long_videos import SHORTEST_S, write_long_video
from service.evaluation.temporal_figures import (
    Span,
    boundary_errors,
    f1,
    figures,
    mean_average_precision,
    merged_windows,
)


def span(start_s: float, end_s: float, label: str = "pan", score: float = 1.0, video: int = 0) -> Span:
    return Span(video, label, start_s, end_s, score)


TRUTH = [span(0, 4), span(6, 10), span(4, 6, "still"), span(5, 5, "cut")]


def test_what_is_known_agrees_with_itself() -> None:
    found = figures(TRUTH, TRUTH)
    assert found == {name: 0.0 if name == "boundary_error_s" else 1.0 for name in found}


@pytest.mark.parametrize(("least", "value"), [(0.3, 1.0), (0.5, 1.0), (0.7, 0.0)])
def test_an_event_counts_from_an_overlap_on(least: float, value: float) -> None:
    assert f1([span(0, 4)], [span(1, 5)], least) == value


def test_a_true_event_is_found_once() -> None:
    assert f1([span(0, 4)], [span(0, 4), span(0.1, 4)], 0.5) == pytest.approx(2 / 3)


def test_other_labels_and_other_videos_do_not_count() -> None:
    assert f1([span(0, 4)], [span(0, 4, "still")], 0.5) == 0
    assert f1([span(0, 4)], [span(0, 4, video=1)], 0.5) == 0


def test_an_instant_is_found_beside_its_place_only() -> None:
    assert f1([span(5, 5, "cut")], [span(5.05, 5.05, "cut")], 0.5) == 1
    assert f1([span(5, 5, "cut")], [span(5.3, 5.3, "cut")], 0.5) == 0


def test_average_precision_falls_with_a_wrong_event_that_scores_higher() -> None:
    right, wrong = span(0, 4, score=0.6), span(20, 22, score=0.9)
    assert mean_average_precision([span(0, 4)], [right, wrong], 0.5) == 0.5
    assert mean_average_precision([span(0, 4)], [right, span(20, 22, score=0.3)], 0.5) == 1


def test_errors_are_those_of_both_ends_of_what_was_found() -> None:
    found = [span(0.1, 3.8), span(30, 40), span(5, 5, "cut")]
    assert boundary_errors(TRUTH, found) == pytest.approx([0.1, 0.2])


def test_successive_windows_with_the_same_best_label_are_one_event_of_the_baseline() -> None:
    def window(start_s: float, label: str, abstained: bool = False) -> WindowResult:
        best = Prediction(label=label, index=0, score=0.5 + start_s / 100)
        return WindowResult(
            start_s=start_s, end_s=start_s + 1, predictions=(best,), attention=None, abstained=abstained
        )

    windows = [
        window(0, "pan"),
        window(1, "pan"),
        window(2, "still"),
        window(3, "pan", abstained=True),
        window(4, "pan"),
    ]
    assert merged_windows(windows, 7) == [
        Span(7, "pan", 0, 2, 0.51),
        Span(7, "still", 2, 3, 0.52),
        Span(7, "pan", 4, 5, 0.54),
    ]


def test_a_generated_video_has_events_from_its_first_frame_to_its_last(tmp_path: Path) -> None:
    bank = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    events = write_long_video(tmp_path / "a.mp4", 12.0, bank, np.random.default_rng(5))
    moves = [event for event in events if event.label not in ("cut", "dissolve")]
    assert moves[0].start_s == 0
    assert all(later.start_s <= event.end_s for event, later in pairwise(moves))
    assert all(event.end_s - event.start_s >= SHORTEST_S - 0.1 for event in moves[:-1])
    starts = {event.start_s for event in moves}
    assert all(event.start_s in starts for event in events if event.label in ("cut", "dissolve"))
