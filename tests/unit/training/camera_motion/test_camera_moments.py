"""Generated moments: what differs from stillness, which way the camera looks, and what symmetries make of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from service.training.camera_motion.camera_moments import (
    MOMENT_LABELS,
    Moments,
    MomentsBatch,
    MomentsConfig,
    randomly_turned,
)

SIDE = 24
CALM = MomentsConfig(frames=8, side=SIDE, tremor=(0.0, 0.0), noise=0.0)
AWAY = {"whip_left": (-1, 0), "whip_right": (1, 0), "whip_up": (0, -1), "whip_down": (0, 1)}


def ramps(tiles: int) -> Tensor:
    """Red grows to the right and green downward, blue is the same everywhere."""
    line = torch.arange(64.0) * 2 + 60
    tile = torch.stack([line.expand(64, 64), line[:, None].expand(64, 64), torch.full((64, 64), 128.0)])
    return tile.byte().repeat(tiles, 1, 1, 1)


def leaves(tiles: int) -> Tensor:
    return torch.randint(0, 256, (tiles, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def calm_batch(bank: Tensor, each: int = 8) -> MomentsBatch:
    return Moments(bank, CALM, 3).batch(torch.arange(len(MOMENT_LABELS)).repeat(each))


def looked_at(clip: Tensor, telling: Tensor) -> Tensor:
    """Where the camera of a whip over ramps went, `(2,)` of -1, 0, 1: from the change of red and green against their
    slopes."""
    picture = clip.float()[..., :2]
    home, away = picture[~telling].mean(0), picture[telling].mean(0)
    slopes = torch.stack([home.diff(dim=1).mean((0, 1)), home.diff(dim=0).mean((0, 1))], 1)  # (color, axis)
    pixels: Tensor = torch.linalg.solve(slopes, (away - home).mean((0, 1)))
    return pixels.round().sign()


@pytest.mark.parametrize("label", MOMENT_LABELS)
def test_only_the_telling_frames_differ_from_stillness(label: str) -> None:
    made = calm_batch(leaves(2))
    for clip, telling, cut in zip(
        *(made[i][made.labels == MOMENT_LABELS.index(label)] for i in (0, 3, 2)), strict=True
    ):
        if label == "cut":
            before, after = clip[: int(cut) + 1], clip[int(cut) + 1 :]
            assert (before == before[0]).all()
            assert (after == after[0]).all()
            assert not torch.equal(before[0], after[0])
            assert telling.nonzero().flatten().tolist() == [int(cut), int(cut) + 1]
        else:
            assert int(cut) == -1
            changed = (clip != clip[0]).flatten(1).any(1)
            assert torch.equal(changed, telling)
            assert int(telling.sum()) <= (0 if label == "still" else 2)
            assert bool(telling.any()) == (label != "still")


@pytest.mark.parametrize("label", AWAY)
def test_a_whip_looks_where_its_name_says(label: str) -> None:
    made = calm_batch(ramps(2))
    rows = made.labels == MOMENT_LABELS.index(label)
    for clip, telling in zip(made.clips[rows], made.telling[rows], strict=True):
        assert tuple(looked_at(clip, telling).int().tolist()) == AWAY[label]


@pytest.mark.parametrize(("label", "narrower"), [("punch_in", True), ("punch_out", False)])
def test_a_punch_shows_less_of_the_picture_or_more(label: str, narrower: bool) -> None:
    made = calm_batch(ramps(2))
    rows = made.labels == MOMENT_LABELS.index(label)
    for clip, telling in zip(made.clips[rows].float(), made.telling[rows], strict=True):
        reach = clip[..., 0].amax((1, 2)) - clip[..., 0].amin((1, 2))
        assert (bool((reach[telling] < reach[0]).all())) == narrower


def test_a_flash_lights_its_frame() -> None:
    made = calm_batch(leaves(2))
    rows = made.labels == MOMENT_LABELS.index("flash")
    for clip, telling in zip(made.clips[rows].float(), made.telling[rows], strict=True):
        assert clip[telling].mean() > clip[~telling].mean() + 20
        assert int(telling.sum()) == 1


def test_labels_and_cuts_follow_the_symmetry_of_a_clip() -> None:
    made = calm_batch(ramps(2), each=24)
    clips, labels, cut = randomly_turned(made.clips, made.labels, made.cut, torch.Generator().manual_seed(1))
    assert (labels != made.labels).any()
    for clip, label, slot in zip(clips, labels.tolist(), cut.tolist(), strict=True):
        telling = (clip != clip[0]).flatten(1).any(1)
        if MOMENT_LABELS[label] in AWAY:
            assert tuple(looked_at(clip, telling).int().tolist()) == AWAY[MOMENT_LABELS[label]]
        if MOMENT_LABELS[label] == "cut" and telling.any():
            assert int(telling.int().argmax()) == slot + 1


def test_equal_seeds_give_equal_clips() -> None:
    one, same = calm_batch(leaves(3)), calm_batch(leaves(3))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    other = Moments(leaves(3), CALM, 4).batch(one.labels)
    assert not torch.equal(one.clips, other.clips)


def test_without_calm_a_hand_trembles_and_a_sensor_is_noisy() -> None:
    labels = torch.zeros(6, dtype=torch.long)
    clips = Moments(leaves(2), MomentsConfig(frames=8, side=SIDE), 0).batch(labels).clips
    assert (clips[:, 1:] != clips[:, :1]).flatten(1).any(1).all()
