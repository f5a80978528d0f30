"""Reference clips are the same everywhere, and their logits say what an export allows."""

import hashlib
from typing import Any

import numpy as np
import pytest

from service.reference_clips import COUNT, ReferenceLogits, reference_clips

LOGITS = np.array([[3.0, -1.0], [0.123456789, 2.0], [1.0, 1.0], [0.0, 0.5]], np.float32)


def test_the_clips_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(reference_clips((8, 48, 64, 3)).tobytes()).hexdigest()
    assert digest == "e63073b9f261103990e289cdf683ab8d465d9354379c3978ee3aa4e8b234f7f8"


@pytest.mark.parametrize("shape", [(8, 24, 32, 3), (4, 36, 24, 1), (1, 5, 7, 3)])
def test_the_clips_have_the_shape_of_a_model(shape: tuple[int, int, int, int]) -> None:
    clips = reference_clips(shape)
    assert clips.shape == (COUNT, *shape)
    assert clips.dtype == np.uint8
    assert (clips.min(), clips.max()) == (0, 255)


def test_the_pictures_of_a_clip_move_and_its_clips_differ() -> None:
    clips = reference_clips((8, 48, 48, 3))
    assert not np.array_equal(clips[0, 0], clips[0, 1])
    assert not np.array_equal(clips[0], clips[2])


def test_logits_come_back_as_they_were_kept() -> None:
    kept = ReferenceLogits.of(LOGITS)
    assert ReferenceLogits.parse(kept.to_dict(), labels=2) == kept
    assert kept.logits[1] == [0.12346, 2.0]


def test_the_bound_is_a_share_of_the_span_of_the_logits() -> None:
    assert ReferenceLogits.of(LOGITS).bound == 0.2
    assert ReferenceLogits.of(LOGITS * 10).bound == 2.0


def test_the_drift_is_the_largest_difference() -> None:
    moved = LOGITS.copy()
    moved[1, 1] -= 0.25
    moved[3, 0] += 0.125
    assert ReferenceLogits.of(LOGITS).drift(moved) == pytest.approx(0.25)


def test_a_number_that_is_none_is_beyond_every_bound() -> None:
    moved = LOGITS.copy()
    moved[0, 0] = np.nan
    assert np.isnan(ReferenceLogits.of(LOGITS).drift(moved))


def test_logits_of_other_clips_count_as_none() -> None:
    assert ReferenceLogits.parse({**ReferenceLogits.of(LOGITS).to_dict(), "recipe": 999}, labels=2) is None


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"recipe": 1},
        {"recipe": 1, "bound": -1, "logits": LOGITS.tolist()},
        {"recipe": 1, "bound": "wide", "logits": LOGITS.tolist()},
        {"recipe": 1, "bound": 1, "logits": LOGITS.tolist()[:2]},
        {"recipe": 1, "bound": 1, "logits": LOGITS[:, :1].tolist()},
        {"recipe": 1, "bound": 1, "logits": [[float("inf"), 0.0]] * COUNT},
    ],
)
def test_an_entry_that_is_wrong_is_refused(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"no |could not"):
        ReferenceLogits.parse(entry, labels=2)
