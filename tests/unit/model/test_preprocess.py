"""Conversions between RGB and 4:2:0: the formulas of ITU-R BT.601 with limited range, written down here once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.model.preprocess import Normalize, as_rgb, as_served, rgb_to_yuv420, yuv420_to_rgb

RED, BLUE = 0.299, 0.114
GREEN = 1 - RED - BLUE
PLACES = 1 << 16


def packed(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> torch.Tensor:
    """One picture `(1, 3H/2, W, 1)` of its planes."""
    samples = np.concatenate([plane.reshape(-1) for plane in (y, u, v)]).astype(np.uint8)
    return torch.from_numpy(samples.reshape(1, y.shape[0] * 3 // 2, y.shape[1], 1))


def planes(height: int, width: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    dice = np.random.default_rng(seed)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    y, u, v = (dice.integers(0, 256, size) for size in sizes)
    return y, u, v


def of_block(plane: NDArray[Any]) -> NDArray[Any]:
    return plane.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 10), (6, 4), (10, 2), (32, 48)])
def test_the_conversion_to_rgb_is_the_formula_to_sixteen_binary_places(height: int, width: int) -> None:
    y, u, v = planes(height, width, height)
    luma, blue, red = y - 16, of_block(u) - 128, of_block(v) - 128
    scale = {
        "y": 255 / 219,
        "rv": 255 / 224 * 2 * (1 - RED),
        "bu": 255 / 224 * 2 * (1 - BLUE),
        "gu": 255 / 224 * 2 * (1 - BLUE) * BLUE / GREEN,
        "gv": 255 / 224 * 2 * (1 - RED) * RED / GREEN,
    }
    whole = {name: round(value * PLACES) for name, value in scale.items()}
    half = PLACES // 2
    expected = np.stack(
        [
            luma * whole["y"] + red * whole["rv"] + half,
            luma * whole["y"] - blue * whole["gu"] - red * whole["gv"] + half,
            luma * whole["y"] + blue * whole["bu"] + half,
        ],
        axis=-1,
    )
    expected = (expected // PLACES).clip(0, 255)
    np.testing.assert_array_equal(yuv420_to_rgb(packed(y, u, v))[0].numpy(), expected)


def test_the_whole_range_of_every_sample_stays_within_a_byte() -> None:
    extremes = np.array([0, 15, 16, 128, 235, 240, 255])
    y, u, v = np.meshgrid(extremes, extremes, extremes)
    y, u, v = y.reshape(1, -1), u.reshape(1, -1), v.reshape(1, -1)
    rgb = yuv420_to_rgb(packed(of_block(y), u, v))[0, ::2, ::2].numpy().astype(int)
    exact = np.stack(
        [
            255 / 219 * (y - 16) + 255 / 224 * 2 * (1 - RED) * (v - 128),
            255 / 219 * (y - 16)
            - 255 / 224 * 2 * (1 - BLUE) * BLUE / GREEN * (u - 128)
            - 255 / 224 * 2 * (1 - RED) * RED / GREEN * (v - 128),
            255 / 219 * (y - 16) + 255 / 224 * 2 * (1 - BLUE) * (u - 128),
        ],
        axis=-1,
    )
    assert np.abs(rgb - exact.clip(0, 255)).max() < 0.51


def test_scripted_it_computes_the_same() -> None:
    clips = torch.randint(0, 256, (2, 3, 12, 6, 1), dtype=torch.uint8)
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(yuv420_to_rgb)
    assert torch.equal(scripted(clips), yuv420_to_rgb(clips))


def test_black_white_and_grays_keep_their_values() -> None:
    grays = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    assert (as_served(grays, "yuv420").int() - grays.int()).abs().max() <= 1
    assert torch.equal(as_served(grays, "yuv420")[[0, 255]], grays[[0, 255]])


def test_a_color_of_a_block_survives_both_conversions_within_two_levels() -> None:
    colors = torch.randint(0, 256, (500, 1, 1, 3), dtype=torch.uint8).expand(-1, 2, 2, -1)
    assert (as_served(colors, "yuv420").int() - colors.int()).abs().max() <= 2


def test_a_picture_that_came_in_420_stays_as_it_is() -> None:
    y, u, v = (np.random.default_rng(3).integers(60, 180, size) for size in ((16, 16), (8, 8), (8, 8)))
    once = yuv420_to_rgb(packed(y, u // 8 + 112, v // 8 + 112))
    assert (as_served(once, "yuv420").int() - once.int()).abs().max() <= 2


def test_rgb_clips_are_left_alone_where_the_model_takes_rgb() -> None:
    clips = torch.randint(0, 256, (2, 3, 6, 6, 3), dtype=torch.uint8)
    assert as_served(clips, "rgb") is clips
    assert as_rgb(clips) is clips


def test_networks_are_given_the_colors_of_clips_in_either_format() -> None:
    clips = torch.randint(0, 256, (2, 3, 12, 8, 1), dtype=torch.uint8)
    assert torch.equal(Normalize()(clips), Normalize()(yuv420_to_rgb(clips)))


@pytest.mark.parametrize("shape", [(1, 5, 4, 1), (1, 6, 3, 1), (1, 6, 4, 3)])
def test_pictures_that_are_not_420_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips must be 4:2:0: \(..., 3H/2, W, 1\) with even H and W"):
        yuv420_to_rgb(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ValueError, match="clips must be uint8"):
        yuv420_to_rgb(torch.zeros(1, 6, 4, 1))


def test_a_picture_of_odd_size_has_no_420() -> None:
    with pytest.raises(ValueError, match="4:2:0 has even sizes, not 5x4"):
        rgb_to_yuv420(torch.zeros(1, 5, 4, 3, dtype=torch.uint8))
