"""Depth of generated scenes: near points move more, and no scene folds."""

import torch

from service.training.camera_motion.scenes import Frame, look, parallax
from service.training.camera_motion.trajectories import Draw, Paths

BATCH, FRAMES, SIDE = 64, 8, 24


def shown(step: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pixels of cameras that travel so far in each frame look at, flat and with depth."""
    center = torch.arange(FRAMES).float()[:, None] * torch.tensor(step)
    zero = torch.zeros(BATCH, FRAMES)
    paths = Paths(center.expand(BATCH, -1, -1), zero, zero, torch.full((BATCH,), -1), zero + 1)
    frame = Frame(torch.tensor([0.5, 0.28]).expand(BATCH, -1))
    flat = look(paths, frame, SIDE, SIDE, torch.zeros(BATCH))
    return flat, parallax(flat, paths, frame, Draw(torch.Generator().manual_seed(0)))


def test_parts_of_a_scene_move_apart_where_the_camera_travels_and_stay_where_it_does_not() -> None:
    flat, deep = shown((0.02, 0.0))
    moved = (deep - flat)[..., 0].diff(dim=1)[:, 0]
    assert (moved.amax((1, 2)) - moved.amin((1, 2)) > 0.001).all()
    flat, deep = shown((0.0, 0.0))
    assert torch.equal(flat, deep)


def test_a_ground_or_walls_never_fold_however_far_the_camera_travels() -> None:
    for step, axis in (((0.0, 0.09), 1), ((0.09, 0.0), 0)):
        flat, deep = shown(step)
        # Of the two kinds of depth, hills are not planes: they alone have points that are farther than the middle.
        near = (deep - flat)[:, -1, ..., axis]
        planes = near.amin((1, 2)) >= 0
        assert planes.any()
        along = deep[planes][..., axis].diff(dim=2 if axis == 1 else 3)
        assert (along > 0).all()
