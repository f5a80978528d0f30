from __future__ import annotations

import gc
from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame

from service.crop_geometry import crop_corners, resized_size
from service.video.orientation import Orientation
from service.video.resize import Resizer, display_size, opencv_bilinear
from tests.unit.video.common import LIMITS, SHARED, spec

GOLDEN = SHARED / "golden" / "resize_crop.safetensors"


def test_the_short_side_is_resized_and_the_long_side_rounded_down() -> None:
    assert resized_size(340, 256, spec(resize_short_side=100, height=90, width=90)) == (132, 100)


def test_an_upright_picture_keeps_its_long_side_vertical() -> None:
    assert resized_size(720, 1280, spec()) == (64, 113)


def test_a_picture_too_narrow_for_a_wide_model_is_enlarged_to_cover_it() -> None:
    assert resized_size(100, 200, spec(width=96, height=64, resize_short_side=64)) == (96, 192)


def test_the_single_crop_is_the_center() -> None:
    assert crop_corners(113, 64, spec(), 1) == [(24, 0)]


def test_three_crops_are_left_right_middle() -> None:
    assert crop_corners(113, 64, spec(), 3) == [(0, 0), (48, 0), (24, 0)]


def test_three_crops_of_an_upright_picture_are_top_bottom_middle() -> None:
    assert crop_corners(64, 113, spec(), 3) == [(0, 0), (0, 48), (0, 24)]


def test_in_420_the_long_side_is_rounded_down_to_an_even_number() -> None:
    yuv420 = spec(clip_format="yuv420")
    assert resized_size(720, 1280, yuv420) == (64, 112)
    assert resized_size(100, 200, yuv420.model_copy(update={"width": 96})) == (96, 192)


@pytest.mark.parametrize("side", range(64, 90, 2))
def test_in_420_every_corner_is_even_and_every_crop_lies_within_the_picture(side: int) -> None:
    for width, height in ((side, 64), (64, side)):
        for crops in (1, 3):
            for left, top in crop_corners(width, height, spec(clip_format="yuv420"), crops):
                assert left % 2 == top % 2 == 0
                assert 0 <= left <= width - 64
                assert 0 <= top <= height - 64


def test_in_420_the_second_of_three_crops_ends_less_than_four_pixels_before_the_edge() -> None:
    for side in range(64, 90, 2):
        corners = [left for left, _ in crop_corners(side, 64, spec(clip_format="yuv420"), 3)]
        assert corners[0] == 0
        assert side - 64 - corners[1] in (0, 2)
        assert corners[2] == corners[1] // 2


def test_wide_pixels_stretch_the_picture() -> None:
    assert display_size(340, 256, Fraction(1024, 765), Orientation()) == (455, 256)


def test_a_quarter_turn_swaps_the_sides() -> None:
    assert display_size(640, 360, Fraction(1), Orientation(transpose=True)) == (360, 640)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden vectors here")
@pytest.mark.parametrize(("case", "levels"), [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_the_opencv_resize_equals_opencv_downwards_and_differs_by_one_level_upwards(case: int, levels: int) -> None:
    golden = pytest.importorskip("safetensors.numpy").load_file(GOLDEN)
    wanted = golden[f"case{case}.out"]
    for given, out in zip(golden[f"case{case}.in"], wanted, strict=True):
        found = opencv_bilinear(given, out.shape[1], out.shape[0])
        np.testing.assert_allclose(found.astype(int), out.astype(int), rtol=0, atol=levels)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden vectors here")
@pytest.mark.parametrize("case", [0, 2])
def test_three_crops_equal_the_official_ones(case: int) -> None:
    golden = pytest.importorskip("safetensors.numpy").load_file(GOLDEN)
    images, wanted = golden[f"case{case}.out"], golden[f"case{case}.three_crop"]
    height, width = wanted.shape[1:3]
    corners = crop_corners(images.shape[2], images.shape[1], spec(height=height, width=width), 3)
    found = np.concatenate([images[:, top : top + height, left : left + width] for left, top in corners])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden vectors here")
@pytest.mark.parametrize("case", [1, 3])
def test_the_center_crop_equals_the_official_one(case: int) -> None:
    golden = pytest.importorskip("safetensors.numpy").load_file(GOLDEN)
    images, wanted = golden[f"case{case}.out"], golden[f"case{case}.center_crop"]
    height, width = wanted.shape[1:3]
    ((left, top),) = crop_corners(images.shape[2], images.shape[1], spec(height=height, width=width), 1)
    np.testing.assert_array_equal(images[:, top : top + height, left : left + width], wanted)


def test_a_resize_to_the_same_size_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opencv_bilinear(image, 17, 13), image)


def test_a_resize_upwards_repeats_the_edge_beyond_the_outermost_pixel_centers() -> None:
    image = np.array([[[0, 0, 0], [200, 200, 200]]], dtype=np.uint8)
    assert opencv_bilinear(image, 4, 1)[0, :, 0].tolist() == [0, 50, 150, 200]


def test_frames_that_were_resized_do_not_pile_up_in_memory() -> None:
    resizer = Resizer(spec(), 1, Fraction(1), LIMITS)
    gc.collect()
    for _ in range(40):
        resizer.crops(VideoFrame(1920, 1080, "yuv420p"))
    # Sixteen million pixels are eight such frames.
    assert sum(type(thing) is VideoFrame for thing in gc.get_objects()) <= 10


def test_frames_that_are_in_use_while_others_are_collected_do_not_pile_up_either() -> None:
    resizer = Resizer(spec(), 1, Fraction(1), LIMITS)
    gc.collect()
    # As a process does that decodes.
    gc.freeze()
    try:
        held: list[VideoFrame] = []
        for _ in range(40):
            held = [VideoFrame(1920, 1080, "yuv420p"), *held[:1]]
            resizer.crops(held[0])
        # Four million pixels are two such frames.
        assert sum(type(thing) is VideoFrame for thing in gc.get_objects()) <= 6
    finally:
        gc.unfreeze()


def test_a_model_of_the_whole_picture_gets_it_squeezed() -> None:
    whole = spec(framing="whole", width=48, height=32, resize_short_side=64)
    assert resized_size(1280, 720, whole) == (48, 32)
    assert resized_size(720, 1280, whole) == (48, 32)
    assert crop_corners(48, 32, whole, 3) == [(0, 0)] * 3
