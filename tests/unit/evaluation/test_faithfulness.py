"""How attention is compared with Shapley values, on networks whose attention is known to be right or wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from service.contracts import Faithfulness
from service.evaluation.candidates import Candidate
from service.evaluation.faithfulness import compare
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


def measured(attention: Sequence[float], count: int = 3) -> Faithfulness:
    one = candidate(attention)
    found = compare(one, numbered(count), count).figures("generated", one.labels)
    assert found is not None
    return found


def test_attention_in_the_order_of_what_frames_are_worth_reaches_all_that_can_be_had() -> None:
    found = measured([0.2, 0.5, 0.0, 0.3])
    assert (found.source, found.seen, found.clips) == ("generated", 3, 3)
    assert (found.rank_correlation, found.same_top_frame) == (1.0, 1.0)
    assert [found.deletion_gap, found.insertion_gap] == pytest.approx([1.0, 1.0])
    assert found.above_chance


def test_attention_in_the_opposite_order_is_worse_than_chance() -> None:
    found = measured([0.3, 0.0, 0.5, 0.2])
    assert found.rank_correlation == pytest.approx(-1.0)
    assert found.same_top_frame == 0
    assert found.deletion_gap < 0
    assert found.insertion_gap < 0
    assert "no better than frames in random order" in found.in_words


def test_flat_attention_agrees_with_nothing() -> None:
    assert measured([0.25] * 4).rank_correlation == 0


def test_a_label_of_frames_in_any_order_needs_no_order_but_several_frames() -> None:
    [need] = measured([0.25] * 4).needs_time
    assert (need.label, need.clips) == ("moves", 3)
    assert need.score == need.reversed == need.shuffled == pytest.approx(0.832, abs=1e-3)
    assert need.still == pytest.approx(0.5, abs=1e-3)


def test_clips_whose_score_a_still_one_has_too_are_seen_and_not_measured() -> None:
    easy = candidate([0.25] * 4, bias=9.0)
    found = compare(easy, numbered(3), 3)
    assert (found.seen, found.figures("videos", easy.labels)) == (3, None)


def test_a_single_clip_has_no_error_and_makes_no_claim() -> None:
    one = candidate([0.25] * 4)
    assert compare(one, numbered(3), 1).figures("videos", one.labels) is None


def test_attention_that_noise_turns_around_is_not_stable() -> None:
    def score(clips: Tensor) -> NetworkOutput:
        output = known.score(clips)
        rising = torch.arange(1.0, FRAMES + 1).expand(len(clips), -1)
        # A clip without noise has pictures of one number each.
        plain = (clips.float().amax((2, 3, 4)) == clips.float().amin((2, 3, 4))).all(1, keepdim=True)
        return output._replace(temporal_attention=torch.where(plain, rising, rising.flip(1)))

    known = candidate([0.25] * 4)
    found = compare(replace(known, score=score), numbered(2), 2).figures("videos", known.labels)
    assert found is not None
    assert found.stability == pytest.approx(-1.0)


def test_more_frames_than_all_subsets_can_be_scored_of_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8 frames, not of 16"):
        compare(candidate([0.25] * 4, frames=16), numbered(1), 1)
