"""Scenes before still cameras, gathered for the virtual camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.evaluation.still_scenes import FRAMES, gather
from service.training.camera_motion.living import HEIGHT, WIDTH
from tests.unit.evaluation.scenes import write_still


def test_scenes_come_from_cameras_that_stand_still(tmp_path: Path) -> None:
    write_still(tmp_path / "still.mp4", 1, frames=40)
    write_still(tmp_path / "moving.mp4", 2, frames=40, panned=4)
    found = gather([tmp_path])
    assert found.frames.shape == (1, FRAMES, 3, HEIGHT, WIDTH)


def test_videos_without_a_still_camera_are_refused(tmp_path: Path) -> None:
    write_still(tmp_path / "moving.mp4", 2, frames=40, panned=4)
    with pytest.raises(ValueError, match="no camera stands still"):
        gather([tmp_path])
