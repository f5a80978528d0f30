"""Which of successive frames begins a shot: one that stands out, and after which the picture stays another."""

from __future__ import annotations

import numpy as np

from service.video.cut_places import cut_among
from service.video.frame_change import SIDE, Gray

FRAMES, AT = 9, 4


def shaken(seed: int) -> Gray:
    """Frames of one shot whose light is so unsteady that a change of half the picture is no clear cut."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(40, 216, (SIDE, SIDE))
    lively = np.clip(scene + rng.integers(-16, 17, (FRAMES, SIDE, SIDE)), 0, 255)
    return np.asarray(lively, dtype=np.uint8)


def test_a_cut_among_lively_frames_is_found() -> None:
    pictures = np.concatenate([shaken(0)[:AT], shaken(1)[AT:]])
    found = cut_among(pictures, AT - 1, AT + 1)
    assert found is not None
    assert found[0] == AT


def test_what_covers_half_of_the_picture_for_a_moment_is_no_cut() -> None:
    pictures = shaken(0)
    pictures[AT : AT + 2, :, : SIDE // 2] = 255
    assert cut_among(pictures, AT - 1, AT + 1) is None


def test_a_change_of_half_the_picture_among_still_frames_is_a_cut() -> None:
    pictures = np.repeat(shaken(0)[:1], FRAMES, axis=0)
    pictures[AT:, :, : SIDE // 2] = 255
    found = cut_among(pictures, AT - 1, AT + 1)
    assert found is not None
    assert found[0] == AT
