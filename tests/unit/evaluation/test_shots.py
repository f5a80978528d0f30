"""Shots: still cameras are told from moving ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.evaluation.shots import read_shots, stillness, video_files
from testing.videos import write_video
from tests.unit.evaluation.scenes import write_still


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    write_still(folder / "still.mp4", 1)
    write_still(folder / "panned.mp4", 1, panned=1)
    return folder


def test_a_still_camera_keeps_its_edges_though_somebody_walks_by(folder: Path) -> None:
    (shot,) = read_shots(folder / "still.mp4", 1.0, 1)
    assert stillness(shot.frames)[0] > 0.8


def test_a_camera_that_moves_a_pixel_a_frame_is_not_still(folder: Path) -> None:
    (shot,) = read_shots(folder / "panned.mp4", 1.0, 1)
    assert stillness(shot.frames)[0] < 0.4


def test_a_picture_without_edges_says_nothing() -> None:
    assert stillness(np.full((20, 120, 160, 3), 90, np.uint8)) == (0.0, 0.0)


def test_stretches_are_spread_and_do_not_overlap(tmp_path: Path) -> None:
    write_still(tmp_path / "a.mp4", 2, frames=75)
    starts = [shot.start_s for shot in read_shots(tmp_path / "a.mp4", 0.5, 4)]
    assert len(starts) == 4
    assert np.diff(starts).min() >= 0.5


def test_a_small_video_gives_no_shots(tmp_path: Path) -> None:
    assert list(read_shots(write_video(tmp_path / "a.mp4"), 1.0, 4)) == []


def test_a_file_that_is_no_video_gives_no_shots(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    assert list(read_shots(tmp_path / "a.mp4", 1.0, 4)) == []


def test_files_are_found_in_the_order_of_their_names(folder: Path) -> None:
    assert [path.name for path in video_files([folder])] == ["panned.mp4", "still.mp4"]
