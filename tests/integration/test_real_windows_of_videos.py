"""Windows of videos whose camera the classical tracker is sure of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from service.training.camera_motion.living import HEIGHT, WIDTH
from service.training.camera_motion.moves import DIRECTED, motion_targets, steps
from service.training.camera_motion.real_windows import read_real_windows
from testing.videos import write_video
from tests.unit.evaluation.scenes import scene, write_still

pytest.importorskip("cv2", reason="the extra `bench` is not installed")

from benchmarks import real_windows


def test_the_motion_of_the_camera_is_measured_at_several_speeds(tmp_path: Path) -> None:
    path = write_still(tmp_path / "panned.mp4", 1, frames=66, panned=1)
    found = real_windows.gather([path])
    assert found.frames.shape[1:] == (real_windows.FRAMES, 3, HEIGHT, WIDTH)
    paths = found.paths(torch.arange(len(found.frames)))
    assert (motion_targets(paths)[:, DIRECTED.index("pan_right")] > 0.5).all()
    # A pixel a frame of 320, sampled every second, fourth and eighth frame.
    moved = steps(paths)[..., 0].mean(1)
    for speed in (2 / 320, 4 / 320, 8 / 320):
        assert ((moved / speed - 1).abs() < 0.05).any()


def test_a_window_across_a_cut_is_left_out(tmp_path: Path) -> None:
    shots = [scene(seed, 320, 240) for seed in (1, 2)]
    path = write_video(
        tmp_path / "cut.mp4", 40, fps=30, size=(320, 240), draw=lambda number, width, height: shots[number >= 20]
    )
    found = real_windows.gather([path])  # what lies within a shot
    assert (found.frames.float().diff(dim=1).abs().mean((2, 3, 4)) < 5).all()


def test_nothing_that_the_tracker_is_sure_of_is_refused(tmp_path: Path) -> None:
    write_video(
        tmp_path / "grey.mp4", 40, fps=30, size=(320, 240), draw=lambda *_: np.full((240, 320, 3), 127, np.uint8)
    )
    with pytest.raises(ValueError, match="sure of no window"):
        real_windows.gather([tmp_path / "grey.mp4"])


def test_a_video_that_does_not_decode_gives_no_window(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    still = write_still(tmp_path / "still.mp4", 1, frames=40)
    found = real_windows.gather([damaged, still])
    assert 1 <= len(found.frames) <= 3
    found.save(tmp_path / "real.pt")
    assert torch.equal(read_real_windows(tmp_path / "real.pt").camera, found.camera)
    assert (motion_targets(found.paths(torch.arange(len(found.frames))))[:, -1] > 0.5).all()
