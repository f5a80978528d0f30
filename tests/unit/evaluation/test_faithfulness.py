"""How attention is compared with Shapley values, on networks whose attention is known to be right or wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from service.evaluation.candidates import Candidate
from service.evaluation.faithfulness import faithfulness
from service.evidence import Clip
from service.model.layers import NetworkOutput
from testing import factories

FRAMES = 4
WORTH = (0.5, 2.0, 0.1, 1.0)
"""What each frame adds to the logit of the first label, where it is seen."""


def candidate(attention: Sequence[float], frames: int = FRAMES, bias: float = -2.0) -> Candidate:
    """Sees which of the numbered frames are there, and says that it looked as `attention` says."""

    def score(clips: Tensor) -> NetworkOutput:
        numbers = clips[:, :, 0, 0, 0]
        seen = torch.stack([(numbers == t).any(1) for t in range(FRAMES)], 1).float()
        logit = bias + seen @ torch.tensor(WORTH)
        count = len(clips)
        layers = torch.ones(count, 1, FRAMES)
        return NetworkOutput(
            torch.stack([logit, torch.full_like(logit, -9.0)], 1),
            torch.tensor(attention).expand(count, -1),
            layers,
            layers,
        )

    spec = factories.spec(frames=frames)
    return Candidate("known", spec.clip, ("moves", "rests"), "sigmoid", score)


def numbered(count: int) -> Iterator[Clip]:
    for _ in range(count):
        clip = np.zeros((FRAMES, 2, 2, 3), np.uint8)
        clip[:] = np.arange(FRAMES, dtype=np.uint8)[:, None, None, None]
        yield clip


def test_attention_in_the_order_of_what_frames_are_worth_reaches_all_that_can_be_had() -> None:
    figures = faithfulness(candidate([0.2, 0.5, 0.0, 0.3]), numbered(3), 2).figures()
    assert figures["clips"] == 2
    assert [figures[name] for name in ("rank_correlation", "same_top_frame", "deletion_gap", "insertion_gap")] == (
        pytest.approx([1.0, 1.0, 1.0, 1.0])
    )


def test_attention_in_the_opposite_order_is_worse_than_chance() -> None:
    figures = faithfulness(candidate([0.3, 0.0, 0.5, 0.2]), numbered(2), 2).figures()
    assert figures["rank_correlation"] == pytest.approx(-1.0)
    assert figures["same_top_frame"] == 0
    assert figures["deletion_gap"] < 0
    assert figures["insertion_gap"] < 0


def test_flat_attention_agrees_with_nothing() -> None:
    assert faithfulness(candidate([0.25] * 4), numbered(2), 2).figures()["rank_correlation"] == 0


def test_clips_whose_score_a_still_one_has_too_are_left_out() -> None:
    assert faithfulness(candidate([0.25] * 4, bias=9.0), numbered(3), 3).figures() == {"clips": 0}


def test_more_frames_than_all_subsets_can_be_scored_of_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 frames, not of 16"):
        faithfulness(candidate([0.25] * 4, frames=16), numbered(1), 1)
