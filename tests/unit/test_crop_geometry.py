"""Regions that answers state are the ones that the decoder cuts out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame

from service.contracts import ClipFormat, Region
from service.crop_geometry import regions
from service.video.orientation import Orientation
from service.video.resize import Resizer
from tests.unit.video.common import LIMITS, spec

RAMP = 200


def ramps(width: int, height: int) -> VideoFrame:
    """A picture that is redder to the right and greener to the bottom, by `RAMP` levels each."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = np.round((np.arange(width) + 0.5) / width * RAMP)
    image[:, :, 1] = np.round((np.arange(height) + 0.5) / height * RAMP)[:, None]
    return VideoFrame.from_ndarray(image, format="rgb24")


@pytest.mark.parametrize(("width", "height"), [(320, 160), (160, 320), (333, 301)])
@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("framing", ["crop", "whole"])
def test_a_crop_shows_its_region_of_the_picture(width: int, height: int, crops: int, framing: str) -> None:
    model = spec(height=48, width=64, resize_short_side=96, framing=framing)
    pictures = Resizer(model, crops, Fraction(1), LIMITS).crops(ramps(width, height))
    for region, picture in zip(regions(width, height, model, crops), pictures, strict=True):
        across, down = picture[:, :, 0].mean(0) / RAMP, picture[:, :, 1].mean(1) / RAMP
        half = np.array([region.width / picture.shape[1], region.height / picture.shape[0]]) / 2
        ends = [across[0], across[-1], down[0], down[-1]]
        expected = [
            region.left + half[0],
            region.left + region.width - half[0],
            region.top + half[1],
            region.top + region.height - half[1],
        ]
        np.testing.assert_allclose(ends, expected, atol=0.012)  # two levels of the ramp


def test_a_region_is_one_of_the_picture_as_it_is_shown() -> None:
    model = spec(height=64, width=64, resize_short_side=64)
    resizer = Resizer(model, 3, Fraction(1), LIMITS, [(0, Orientation(transpose=True))])
    pictures = resizer.crops(ramps(320, 160))
    shown = regions(resizer.display_width, resizer.display_height, model, 3)
    assert [one.width for one in shown] == [1, 1, 1]
    # Turned, the picture is redder from top to bottom.
    for region, picture in zip(shown, pictures, strict=True):
        assert picture[:, :, 0].mean() / RAMP == pytest.approx(region.top + region.height / 2, abs=0.012)


@pytest.mark.parametrize("clip_format", ["rgb", "yuv420"])
def test_three_crops_lie_along_the_longer_side(clip_format: ClipFormat) -> None:
    model = spec(clip_format=clip_format)
    first, second, third = regions(128, 64, model, 3)
    assert first == Region(left=0, top=0, width=0.5, height=1)
    assert (second.left, third.left) == (0.5, 0.25)


def test_the_whole_picture_is_the_whole_region() -> None:
    assert regions(1280, 720, spec(framing="whole"), 1) == [Region(left=0, top=0, width=1, height=1)]
