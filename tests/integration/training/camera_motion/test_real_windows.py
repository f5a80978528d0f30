"""Real windows: the motions of the real camera and of the virtual one before it add up, in numbers and in pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from service.training.camera_motion import scenes
from service.training.camera_motion.living import HEIGHT, WIDTH, Living
from service.training.camera_motion.mixed_moves import MixedMoves, MovesConfig
from service.training.camera_motion.moves import DIRECTED, INDEX, motion_targets, sample_moves, steps
from service.training.camera_motion.real_windows import (
    RealView,
    RealViews,
    RealWindows,
    at_rest,
    carried,
    poses,
    read_real_windows,
)
from service.training.camera_motion.scenes import Frame
from service.training.camera_motion.textures import texture_bank
from service.training.camera_motion.trajectories import Draw, Paths

FRAMES = 8
TIME = torch.arange(FRAMES).float()
WIDE = Frame(torch.tensor([[0.5, 9 / 32]]))


def path(x: float = 0.0, y: float = 0.0, view: float = 0.0, angle: float = 0.0) -> Paths:
    """So much of each at every frame."""
    center = torch.stack([x * TIME, y * TIME], -1)[None]
    return Paths(center, (view * TIME)[None], (angle * TIME)[None], torch.tensor([-1]), torch.ones(1, FRAMES))


def camera(paths: Paths) -> Tensor:
    """The poses `(1, T, 4)` of paths."""
    return torch.cat([paths.center, paths.log_view[..., None], paths.angle[..., None]], -1)


def windows(*paths: Paths) -> RealWindows:
    """What cameras on these paths see of a picture."""
    generator = torch.Generator().manual_seed(3)
    blocks = torch.randint(0, 256, (1, 3, 24, 24), generator=generator).float()
    picture = F.interpolate(blocks, size=(512, 512), mode="bicubic").clamp(0, 255)
    frame = Frame(torch.tensor([[0.5, 0.5 * HEIGHT / WIDTH]]))
    seen = []
    for one in paths:
        grid = scenes.look(one, frame, HEIGHT, WIDTH, torch.zeros(1))
        seen.append(scenes.seen(picture, grid, torch.tensor([0.5]), torch.zeros(1, 2))[0].transpose(0, 1) * 255)
    return RealWindows(torch.stack(seen).round().byte(), torch.cat([camera(one) for one in paths]))


def whole(share: float = 0.8, offset: tuple[float, float] = (0.0, 0.0), backwards: bool = False) -> RealView:
    return RealView(
        torch.zeros(1, dtype=torch.long), torch.tensor([share]), torch.tensor([offset]), torch.tensor([backwards])
    )


def said(paths: Paths) -> set[str]:
    names = (*DIRECTED, "shake")
    return {name for name, value in zip(names, motion_targets(paths)[0].tolist(), strict=False) if value > 0.5}


def in_the_world(real: RealWindows, virtual: Paths, view: RealView) -> Paths:
    moves = sample_moves(1, FRAMES, torch.Generator().manual_seed(0))
    moves = type(moves)(virtual, virtual, moves.mix, moves.flash)
    return real.carried(moves, RealViews(view, view)).paths


def test_poses_move_by_the_steps_they_were_made_of() -> None:
    step = 0.02 * torch.randn(FRAMES - 1, 4, generator=torch.Generator().manual_seed(1))
    pose = poses(step)[None]
    paths = Paths(pose[..., :2], pose[..., 2], pose[..., 3], torch.tensor([-1]), torch.ones(1, FRAMES))
    torch.testing.assert_close(steps(paths)[0], step, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("real", "virtual", "labels"),
    [
        (path(x=0.02), path(), {"pan_right"}),
        (path(x=0.02), path(view=-0.05), {"pan_right", "zoom_in"}),
        (path(view=0.05), path(y=-0.025), {"zoom_out", "tilt_up"}),
        (path(x=0.016), path(x=-0.02), set()),  # a camera that goes back as fast as the other one goes on
        (path(), path(angle=0.05), {"roll_cw"}),
    ],
)
def test_what_is_said_of_a_window_is_what_both_cameras_do(real: Paths, virtual: Paths, labels: set[str]) -> None:
    assert said(in_the_world(windows(real), virtual, whole())) == labels


def test_a_motion_is_larger_in_a_part_of_a_window_and_the_other_way_round_where_it_runs_backwards() -> None:
    real = windows(path(x=0.01))
    part = steps(in_the_world(real, path(), whole(0.5)))
    torch.testing.assert_close(part[..., 0], torch.full((1, FRAMES - 1), 0.02))
    back = steps(in_the_world(real, path(), whole(0.5, backwards=True)))
    torch.testing.assert_close(back, -part)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.15, -0.2)])
def test_pictures_show_the_motion_of_both_cameras(offset: tuple[float, float]) -> None:
    real, virtual, view = windows(path(x=0.012, view=-0.03)), path(y=0.01, angle=0.03), whole(0.6, offset)
    grid = scenes.look(virtual, WIDE, 36, 64, torch.zeros(1))
    seen = real.seen(grid, view)
    world = in_the_world(real, virtual, view)
    flow = scenes.cell_motion(world, WIDE, 12)[0, :-1, ..., :2]  # (T-1, g, g, 2)
    flow = F.interpolate(flow.permute(0, 3, 1, 2), size=(36, 64), mode="bilinear").permute(0, 2, 3, 1)
    y, x = ((torch.arange(n).float() + 0.5) / n * 2 - 1 for n in (36, 64))
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    frames = seen[0].transpose(0, 1)
    inner = (..., slice(6, -6), slice(8, -8))

    def error(sign: float) -> float:
        fetched = F.grid_sample(frames[1:], here + 2 * sign * flow, align_corners=False)
        return float((fetched - frames[:-1])[inner].abs().mean())

    assert error(1) < 0.25 * error(0)


def test_views_stay_within_their_windows() -> None:
    real = windows(path(x=0.02), path())
    frame = Frame(torch.tensor([[0.5, 0.28], [0.28, 0.5], [0.5, 0.5]]).repeat(40, 1))
    view = real.views(Draw(torch.Generator().manual_seed(4)), frame, 1.0).first
    assert view.shown.all()
    reach = view.offset.abs() + 2 * view.share[:, None] * frame.half * torch.tensor([1.0, WIDTH / HEIGHT])
    assert (reach <= 1 + 1e-5).all()
    assert set(view.window.tolist()) == {0, 1}


def test_rare_motions_are_drawn_more_often_than_their_share() -> None:
    real = windows(*[path()] * 15, path(x=0.02))
    assert float(real.weights[15] / real.weights.sum()) > 2 / 16


def test_most_virtual_cameras_before_a_window_are_at_rest_and_no_others() -> None:
    moves = sample_moves(400, FRAMES, torch.Generator().manual_seed(2))
    draw = Draw(torch.Generator().manual_seed(3))
    views = windows(path()).views(draw, Frame(WIDE.half.expand(400, 2)), 0.5)
    still = (at_rest(moves, views, draw).paths.center == 0).flatten(1).all(1)
    shown = views.first.shown
    assert 0.5 < float(still[shown].float().mean()) < 0.8
    assert not still[~shown].any()


def test_clips_of_real_windows_are_labeled_by_their_cameras() -> None:
    bank = texture_bank([], tiles_each=1, procedural=6, side=64, seed=3)
    config = MovesConfig(side=16, cells=2, real_share=1.0)
    made = MixedMoves(bank, None, config, 5, windows(path(x=0.03))).batch(96)
    pans = made.targets[:, [INDEX["pan_left"], INDEX["pan_right"]]].amax(1)
    assert float((pans > 0.5).float().mean()) > 0.6
    none = MixedMoves(bank, None, config, 5).batch(96)
    assert float((none.targets[:, [INDEX["pan_left"], INDEX["pan_right"]]].amax(1) > 0.5).float().mean()) < 0.5


def test_windows_are_kept_and_read(tmp_path: Path) -> None:
    real = windows(path(x=0.02))
    real.save(tmp_path / "real.pt")
    kept = read_real_windows(tmp_path / "real.pt")
    assert torch.equal(kept.frames, real.frames)
    assert torch.equal(kept.camera, real.camera)


def test_paths_that_no_window_carries_stay_as_they_are() -> None:
    virtual = path(x=0.02)
    away = RealView(torch.tensor([-1]), torch.ones(1), torch.zeros(1, 2), torch.zeros(1, dtype=torch.bool))
    assert torch.equal(in_the_world(windows(path(y=0.02)), virtual, away).center, virtual.center)
    together = carried(virtual, camera(path(y=0.02)), torch.ones(1), torch.zeros(1, 2))
    assert not torch.equal(together.center, virtual.center)


def test_what_moves_in_a_scene_is_cut_out_of_it() -> None:
    frames = torch.full((1, FRAMES, 3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    for t in range(FRAMES):
        frames[0, t, :, 60:100, 20 * t : 20 * t + 20] = 220
    _, mask = Living(frames, torch.zeros(1, 2)).cut_out(torch.tensor([0]))
    assert (mask[0, 3, 0, 65:95, 63:77] == 255).all()
    assert (mask[0, 3, 0, :50] == 0).all()
    assert (mask[0, 3, 0, :, 100:] == 0).all()
