"""Camera moves of real footage: what is said of a path holds, and pictures, motion and scores agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion.living import HEIGHT, WIDTH, Living, read_living, still_scenes
from service.training.camera_motion.mixed_moves import MixedMoves, MovesBatch, MovesConfig
from service.training.camera_motion.moves import (
    DIRECTED,
    INDEX,
    MOVE_LABELS,
    motion_targets,
    sample_moves,
    steps,
    targets_of,
)
from service.training.camera_motion.moves_symmetry import randomly_mirrored
from service.training.camera_motion.textures import texture_bank
from service.training.camera_motion.trajectories import Paths

FRAMES = 8
TIME = torch.arange(FRAMES).float()
NAMES = (*DIRECTED, "shake", "handheld", "static")


def path(
    *, x: Tensor | None = None, y: Tensor | None = None, view: Tensor | None = None, angle: Tensor | None = None
) -> Paths:
    still = torch.zeros(FRAMES)
    x, y, view, angle = (still if value is None else value for value in (x, y, view, angle))
    center = torch.stack([x, y], -1)[None]
    return Paths(center, view[None], angle[None], torch.tensor([-1]), torch.ones(1, FRAMES))


def said(paths: Paths) -> set[str]:
    return {name for name, value in zip(NAMES, motion_targets(paths)[0].tolist(), strict=True) if value > 0.5}


@pytest.fixture(scope="module")
def bank() -> Tensor:
    return texture_bank([], tiles_each=1, procedural=12, side=256, seed=3)


@pytest.fixture(scope="module")
def living() -> Living:
    generator = torch.Generator().manual_seed(5)
    pictures = torch.randint(0, 256, (3, 3, 9, 12), generator=generator).float()
    frames = F.interpolate(pictures, size=(HEIGHT, WIDTH), mode="bilinear")[:, None].repeat(1, FRAMES, 1, 1, 1)
    for t in range(FRAMES):
        frames[:, t, :, 50:90, 60 + 8 * t : 90 + 8 * t] = 230  # somebody walks by
    return Living(frames.byte(), torch.zeros(3, 2))


@pytest.fixture(scope="module")
def batch(bank: Tensor, living: Living) -> MovesBatch:
    return MixedMoves(bank, living, MovesConfig(side=32, cells=4), 4).batch(96)


@pytest.mark.parametrize(
    ("label", "paths"),
    [
        ("pan_right", path(x=0.02 * TIME)),
        ("pan_left", path(x=-0.02 * TIME)),
        ("tilt_down", path(y=0.02 * TIME)),
        ("tilt_up", path(y=-0.02 * TIME)),
        ("zoom_in", path(view=-0.04 * TIME)),
        ("zoom_out", path(view=0.04 * TIME)),
        ("roll_cw", path(angle=0.04 * TIME)),
        ("roll_ccw", path(angle=-0.04 * TIME)),
    ],
)
def test_a_single_motion_is_called_by_its_name_alone(label: str, paths: Paths) -> None:
    assert said(paths) == {label}


def test_a_slow_motion_is_seen_and_a_creeping_one_is_not() -> None:
    assert said(path(x=0.0025 * TIME)) == {"pan_right"}
    assert "pan_right" not in said(path(x=0.0007 * TIME))


def test_motions_at_once_all_hold() -> None:
    assert said(path(x=0.02 * TIME, view=-0.04 * TIME)) == {"pan_right", "zoom_in"}


def test_an_impurity_is_not_said() -> None:
    assert said(path(x=0.02 * TIME, y=0.004 * TIME)) == {"pan_right"}


def test_a_move_that_speeds_up_does_not_shake() -> None:
    assert said(path(x=0.004 * TIME**2)) == {"pan_right"}


@pytest.mark.parametrize(
    ("size", "names"),
    [(0.0, {"static"}), (0.001, {"static", "handheld"}), (0.003, {"handheld"}), (0.03, {"handheld", "shake"})],
)
def test_a_hand_is_told_by_its_tremor(size: float, names: set[str]) -> None:
    to_and_fro = torch.tensor([0.0, 1, 0, -1, 0.5, -1, 1, 0]) * size
    assert said(path(x=to_and_fro, y=to_and_fro.flip(0))) == names


def test_steps_are_those_of_the_camera_that_has_turned() -> None:
    quarter = torch.full((FRAMES,), torch.pi / 2)
    right, down, _, _ = steps(path(x=0.02 * TIME, angle=quarter))[0, 0].tolist()
    assert (right, down) == pytest.approx((0.0, -0.02), abs=1e-6)


def test_every_label_occurs_and_scores_are_shares() -> None:
    moves = sample_moves(2000, FRAMES, torch.Generator().manual_seed(0))
    targets = targets_of(moves)
    assert targets.isfinite().all()
    assert ((targets >= 0) & (targets <= 1)).all()
    often = dict(zip(MOVE_LABELS, (targets > 0.5).float().mean(0).tolist(), strict=True))
    assert min(often.values()) > 0.01, often


def test_nothing_is_static_that_moves_is_cut_or_fades() -> None:
    targets = targets_of(sample_moves(500, FRAMES, torch.Generator().manual_seed(1)))
    others = [INDEX[name] for name in MOVE_LABELS if name not in ("static", "handheld")]
    assert (targets[:, INDEX["static"]] + targets[:, others].amax(1) <= 1 + 1e-6).all()


def test_equal_seeds_give_equal_clips(bank: Tensor, living: Living, batch: MovesBatch) -> None:
    again = MixedMoves(bank, living, MovesConfig(side=32, cells=4), 4).batch(96)
    assert torch.equal(again.clips, batch.clips)
    other = MixedMoves(bank, living, MovesConfig(side=32, cells=4), 5).batch(96)
    assert not torch.equal(other.clips, batch.clips)


def alone(batch: MovesBatch, label: str) -> Tensor:
    """Rows of clips in which the label is the only motion."""
    rest = [INDEX[name] for name in MOVE_LABELS if name not in (label, "handheld")]
    return ((batch.targets[:, INDEX[label]] > 0.9) & (batch.targets[:, rest].amax(1) < 0.1)).nonzero().flatten()


@pytest.mark.parametrize(
    ("label", "component", "sign"), [("pan_right", 0, -1), ("pan_left", 0, 1), ("tilt_up", 1, 1), ("tilt_down", 1, -1)]
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_content_moves_against_the_camera(
    label: str, component: int, sign: int, mirrored: bool, batch: MovesBatch
) -> None:
    if mirrored:
        batch = randomly_mirrored(batch, torch.Generator().manual_seed(2))
    rows = alone(batch, label)
    assert len(rows) > 0
    ahead = batch.flow[rows, :-1, ..., component].flatten(1).nanmean(1)
    assert (sign * ahead > 0).all()


def fetched_error(batch: MovesBatch, rows: Tensor, sign: float) -> float:
    """Mean difference between each frame and the next one, fetched along `sign` times the motion that is told."""
    clips = batch.clips[rows].float().mean(-1)
    side = clips.size(-1)
    flow = sign * batch.flow[rows, :-1, ..., :2].flatten(0, 1).permute(0, 3, 1, 2)
    flow = F.interpolate(flow, size=(side, side), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    line = (torch.arange(side).float() + 0.5) / side * 2 - 1
    here = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    fetched = F.grid_sample(clips[:, 1:].flatten(0, 1)[:, None], here + 2 * flow, align_corners=False)
    inner = slice(8, -8)
    error = (fetched[:, 0] - clips[:, :-1].flatten(0, 1))[:, inner, inner].abs().mean((1, 2))
    return float(error.nanmedian())


@pytest.mark.parametrize("framing", ["whole", "crop"])
def test_the_motion_that_is_told_is_what_the_pictures_show(bank: Tensor, framing: str) -> None:
    made = MixedMoves(bank, None, MovesConfig(framing=framing), 9).batch(64)  # type: ignore[arg-type]
    moving = made.flow[..., :2].nan_to_num().abs().flatten(1).amax(1) > 0.02
    rows = (moving & (made.cut < 0)).nonzero().flatten()
    assert fetched_error(made, rows, 1) < 0.8 * fetched_error(made, rows, 0) < 0.8 * fetched_error(made, rows, -1)


def test_a_cut_is_where_it_is_said_to_be(batch: MovesBatch) -> None:
    for one in (batch, randomly_mirrored(batch, torch.Generator().manual_seed(3))):
        rows = (one.cut >= 0).nonzero().flatten()
        change = one.clips[rows].float().diff(dim=1).abs().mean((2, 3, 4))
        assert (change.argmax(1) == one.cut[rows]).float().mean() > 0.6
        assert torch.equal(one.targets[:, INDEX["cut"]] > 0.5, one.cut >= 0)


def test_a_picture_without_content_is_static(bank: Tensor) -> None:
    made = MixedMoves(bank, None, MovesConfig(side=16, cells=2), 6).batch(480)
    # Of a picture without content no motion is told, nor is it while one shot dissolves into another.
    unknown = made.flow.isnan().flatten(1).all(1) & (made.targets[:, INDEX["dissolve"]] == 0)
    assert 2 <= int(unknown.sum()) <= 30
    assert (made.clips[unknown].float().std((1, 2, 3, 4)) < 5).all()
    targets = made.targets[unknown]
    assert (targets[:, INDEX["static"]] == 1).all()
    assert (targets.sum(1) == 1).all()


def test_clips_of_one_batch_vary_in_what_they_show(batch: MovesBatch) -> None:
    assert len(batch.clips.flatten(1).unique(dim=0)) > 0.95 * len(batch.clips)


def test_scenes_are_kept_and_read(living: Living, tmp_path: Path) -> None:
    living.save(tmp_path / "scenes.pt")
    kept = read_living(tmp_path / "scenes.pt")
    assert torch.equal(kept.frames, living.frames)
    assert torch.equal(kept.busiest, living.busiest)


def test_a_scene_takes_the_frames_that_a_sampler_would_and_knows_where_it_is_busy() -> None:
    shot = np.zeros((40, 144, 192, 3), np.uint8)
    shot[:, 96:, 144:] = 6 * np.arange(40, dtype=np.uint8)[:, None, None, None]
    scene = still_scenes([shot], [30.0], FRAMES)
    assert scene.frames.shape == (1, FRAMES, 3, HEIGHT, WIDTH)
    assert scene.frames[0, :, 0, -1, -1].tolist() == [24 * k for k in range(FRAMES)]
    assert (scene.busiest[0] > 0.4).all()
