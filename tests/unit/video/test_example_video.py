"""The video that the service makes itself."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from service.video.example_video import FPS, HEIGHT, TAKES, WIDTH, encoded

Luma = NDArray[np.float32]


@pytest.fixture(scope="module")
def lumas() -> list[Luma]:
    with av.open(io.BytesIO(encoded()), "r") as container:
        return [frame.to_ndarray(format="gray").astype(np.float32) for frame in container.decode(video=0)]


def test_it_has_the_frames_of_its_takes(lumas: list[Luma]) -> None:
    assert len(lumas) == FPS * sum(take.seconds for take in TAKES)
    assert lumas[0].shape == (HEIGHT, WIDTH)


def test_it_is_cut_where_the_scene_changes_and_nowhere_else(lumas: list[Luma]) -> None:
    jumps = [float(np.abs(after - before).mean()) for before, after in itertools.pairwise(lumas)]
    starts = np.cumsum([0.0, *(take.seconds for take in TAKES)])[:-1] * FPS
    cuts = {
        int(start)
        for start, (before, take) in zip(starts[1:], itertools.pairwise(TAKES), strict=True)
        if take.scene != before.scene
    }
    assert set(np.argsort(jumps)[-len(cuts) :] + 1) == cuts


def test_its_camera_stands_still_before_it_moves(lumas: list[Luma]) -> None:
    still, moving = round(TAKES[0].seconds * FPS) // 2, round((TAKES[0].seconds + TAKES[1].seconds / 2) * FPS)
    assert np.abs(lumas[still + 1] - lumas[still]).mean() < 1
    assert np.abs(lumas[moving + 1] - lumas[moving]).mean() > 4
