"""Clips in 4:2:0 show what clips in RGB show, however the picture lies and is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from service.contracts import JobRequest
from service.model.preprocess import yuv420_to_rgb
from service.video.yuv420 import cut_planes, planes_of
from testing.videos import quadrant_colors, quadrants, write_video
from tests.unit.video.common import decode, spec

YUV420 = spec(clip_format="yuv420")


def shown(clips: np.ndarray) -> np.ndarray:
    return yuv420_to_rgb(torch.from_numpy(clips)).numpy()


@pytest.mark.parametrize("mirror_x", [False, True])
@pytest.mark.parametrize("mirror_y", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_turned_or_mirrored_picture_lies_as_it_does_in_rgb(
    tmp_path: Path, degrees: int, mirror_x: bool, mirror_y: bool
) -> None:
    path = write_video(tmp_path / "a.mp4", 40, size=(98, 74), draw=quadrants, turn=(degrees, mirror_x, mirror_y))
    _, rgb = decode(path)
    _, yuv420 = decode(path, model=YUV420)
    for slot in (0, 7):
        assert quadrant_colors(shown(yuv420)[0, 0, slot]) == quadrant_colors(rgb[0, 0, slot])


@pytest.mark.parametrize("size", [(96, 64), (99, 64), (64, 64), (130, 70), (62, 140)])
def test_three_crops_show_the_parts_that_they_show_in_rgb(tmp_path: Path, size: tuple[int, int]) -> None:
    def ramp(number: int, width: int, height: int) -> np.ndarray:
        x, y = np.meshgrid(np.linspace(30, 220, width), np.linspace(30, 220, height))
        return np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8)

    coded = (size[0] // 2 * 2, size[1] // 2 * 2)
    path = write_video(tmp_path / "a.mp4", 40, size=coded, draw=ramp)
    request = JobRequest(crops=3)
    _, rgb = decode(path, request)
    _, yuv420 = decode(path, request, YUV420)
    apart = np.abs(shown(yuv420).astype(int) - rgb.astype(int))
    # A pixel of the ramp is up to three levels, and a crop may begin three pixels beside that in RGB.
    assert apart.mean() < 8
    assert apart.max() < 24


def test_the_whole_picture_is_squeezed_to_the_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40, size=(150, 64), draw=quadrants)
    model = spec(clip_format="yuv420", framing="whole", height=32, width=48)
    _, clips = decode(path, JobRequest(windows=1), model)
    assert clips.shape == (1, 1, 8, 48, 48, 1)
    assert quadrant_colors(shown(clips)[0, 0, 0]) == quadrant_colors(quadrants(0, 48, 32))


def test_a_clip_takes_half_the_bytes() -> None:
    assert 2 * YUV420.clip_bytes == spec().clip_bytes


def test_a_part_of_a_picture_is_the_same_part_of_each_plane() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (48 * 3 // 2, 80), dtype=np.uint8)
    planes = planes_of(VideoFrame.from_ndarray(whole, format="yuv420p"))
    assert [plane.shape for plane in planes] == [(48, 80), (24, 40), (24, 40)]
    cut = cut_planes(planes, 6, 10, 32, 20)
    y, u, v = np.split(cut.reshape(-1), [32 * 20, 32 * 20 * 5 // 4])
    luma, rest = whole[:48], whole[48:].reshape(2, 24, 40)
    np.testing.assert_array_equal(y.reshape(20, 32), luma[10:30, 6:38])
    np.testing.assert_array_equal(u.reshape(10, 16), rest[0][5:15, 3:19])
    np.testing.assert_array_equal(v.reshape(10, 16), rest[1][5:15, 3:19])
