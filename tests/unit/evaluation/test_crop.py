"""Camera paths and windows: what the picture does when the camera moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.evaluation.camera_paths import RANGES, CameraPath, sample_path
from service.evaluation.crop import crop, shows_edges
from service.model.presets import CAMERA_MOTION_LABELS as LABELS

TIMES = np.arange(8.0)
HEIGHT, WIDTH = 300, 400


def positions() -> NDArray[np.uint8]:
    """Frames whose red level tells the place across and whose green level the place down."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, WIDTH)
    picture[..., 1] = np.linspace(0, 255, HEIGHT)[:, None]
    return np.broadcast_to(picture, (8, HEIGHT, WIDTH, 3)).copy()


def seen(label: str, seed: int = 0) -> NDArray[np.float64]:
    """What part of the frame the window shows: `(8, h, w, 2)` place across and down, in pixels."""
    rng = np.random.default_rng(seed)
    clip = crop(positions(), sample_path(label, TIMES, 8, rng), 4 / 3, rng)
    assert clip is not None
    places: NDArray[np.float64] = clip[..., :2] / 255.0 * np.array([WIDTH, HEIGHT])
    return places


def middle(shown: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = shown.mean(axis=(1, 2))
    return mean


@pytest.mark.parametrize(
    ("label", "axis", "sign"), [("pan_left", 0, -1), ("pan_right", 0, 1), ("tilt_up", 1, -1), ("tilt_down", 1, 1)]
)
def test_the_window_travels_where_the_camera_turns(label: str, axis: int, sign: int) -> None:
    moved = middle(seen(label))[-1] - middle(seen(label))[0]
    assert sign * moved[axis] > 3 * abs(moved[1 - axis])


@pytest.mark.parametrize(("label", "grows"), [("zoom_in", False), ("zoom_out", True)])
def test_zooming_in_shows_less(label: str, grows: bool) -> None:
    width = np.ptp(seen(label)[:, :, :, 0], axis=(1, 2))
    assert bool(width[-1] > 1.1 * width[0]) is grows


@pytest.mark.parametrize(("label", "sign"), [("roll_cw", 1), ("roll_ccw", -1)])
def test_a_camera_that_rolls_clockwise_has_its_right_side_further_down(label: str, sign: int) -> None:
    last = seen(label)[-1]
    middle_row = last[last.shape[0] // 2]
    drop = middle_row[-1, 1] - middle_row[0, 1]
    assert sign * drop > 0.1 * (middle_row[-1, 0] - middle_row[0, 0])


@pytest.mark.parametrize(("label", "kind"), [("pan_left", "pan"), ("tilt_down", "tilt"), ("roll_cw", "roll")])
def test_speeds_are_those_of_the_path(label: str, kind: str) -> None:
    path = sample_path(label, TIMES, 8, np.random.default_rng(3))
    state = {"pan": path.center[:, 0], "tilt": path.center[:, 1], "roll": np.degrees(path.angle)}[kind]
    assert RANGES[kind][0] <= path.speed <= RANGES[kind][1]
    assert abs(state[-1] - state[0]) / 7 == pytest.approx(path.speed, rel=0.15)


def test_a_still_camera_has_no_path() -> None:
    path = sample_path("static", TIMES, 8, np.random.default_rng(0))
    assert not path.center.any()
    assert not path.angle.any()


def test_a_shake_returns() -> None:
    path = sample_path("shake", TIMES, 8, np.random.default_rng(0))
    assert abs(path.center.mean()) < 1e-9
    assert 0.3 * path.speed < np.sqrt((path.center**2).mean()) <= path.speed + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_a_fade_takes_most_of_the_light_within_the_clip(seed: int) -> None:
    light = sample_path("fade", TIMES, 8, np.random.default_rng(seed)).light
    assert light.max() > 0.95
    assert light.min() < 0.12


@pytest.mark.parametrize("label", LABELS)
def test_the_window_stays_inside_the_frame(label: str) -> None:
    framed = positions()
    framed[..., 2] = 255
    framed[:, 1:-1, 1:-1, 2] = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        clip = crop(framed, sample_path(label, TIMES, 8, rng), 1.0, rng)
        if clip is not None:
            assert (clip[..., 2] > 200).mean() < 0.01  # at most the outermost line


def test_a_path_too_long_for_the_frame_is_refused() -> None:
    path = CameraPath(np.stack([TIMES, 0 * TIMES], -1), 0 * TIMES, 0 * TIMES, 0 * TIMES + 1, 1.0)
    assert crop(positions(), path, 1.0, np.random.default_rng(0)) is None


def test_a_turn_keeps_shapes() -> None:
    # A quarter turn of a square window: its first row then runs down the frame.
    angle = np.full(8, math.pi / 2)
    path = CameraPath(np.zeros((8, 2)), 0 * TIMES, angle, 0 * TIMES + 1, 0.0)
    clip = crop(positions(), path, 1.0, np.random.default_rng(0))
    assert clip is not None
    row = clip[0, 0].astype(float)
    assert np.ptp(row[:, 0]) < 3
    assert (np.diff(row[:, 1]) >= 0).all()


def test_flat_pictures_show_no_edges() -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert shows_edges(noisy)
    assert not shows_edges(np.full((64, 64, 3), 80, np.uint8))
