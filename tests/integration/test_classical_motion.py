"""The classical tracker says of scenes with a known camera what the camera does."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from service.evaluation.labeled_windows import read_windows
from tests.unit.evaluation.scenes import scene, write_still

cv2 = pytest.importorskip("cv2", reason="the extra `bench` is not installed")

from benchmarks import classical_motion as classical  # noqa: E402 - needs OpenCV

RULES = classical.Rules()
FRAMES = 8


def seen(moved: list[np.ndarray]) -> list[np.ndarray]:
    """Frames of a scene under affine maps of it, 320 x 240, from its middle."""
    wide = cv2.GaussianBlur(scene(3, 640, 480), (5, 5), 0)
    middle = np.array([[1.0, 0, -160], [0, 1, -120], [0, 0, 1]])
    return [cv2.warpAffine(wide, (middle @ m)[:2], (320, 240), flags=cv2.INTER_LINEAR) for m in moved]


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def turn(degrees: float, scale: float) -> np.ndarray:
    return np.vstack([cv2.getRotationMatrix2D((320, 240), degrees, scale), [0, 0, 1]])


MOVES = {
    "pan_right": [shift(-3 * t, 0) for t in range(FRAMES)],
    "pan_left": [shift(3 * t, 0) for t in range(FRAMES)],
    "tilt_down": [shift(0, -3 * t) for t in range(FRAMES)],
    "tilt_up": [shift(0, 3 * t) for t in range(FRAMES)],
    "zoom_in": [turn(0, 1.03**t) for t in range(FRAMES)],
    "zoom_out": [turn(0, 0.97**t) for t in range(FRAMES)],
    # OpenCV turns counter-clockwise: so does the content where the camera rolls clockwise.
    "roll_cw": [turn(2 * t, 1) for t in range(FRAMES)],
    "roll_ccw": [turn(-2 * t, 1) for t in range(FRAMES)],
    "static": [shift(0, 0)] * FRAMES,
    "shake": [shift(9 * (-1) ** t, 6 * (-1) ** (t // 2)) for t in range(FRAMES)],
    "mixed": [shift(-3 * t, -3 * t) for t in range(FRAMES)],
}


@pytest.mark.parametrize("label", sorted(MOVES))
def test_a_known_camera_gets_its_name(label: str) -> None:
    frames = seen(MOVES[label])
    assert classical.label_of(classical.measure(frames, frames, RULES), RULES) == label


def test_a_slow_move_is_seen() -> None:
    frames = seen([shift(-0.8 * t, 0) for t in range(FRAMES)])  # 0.25 % of the width a frame
    assert classical.label_of(classical.measure(frames, frames, RULES), RULES) == "pan_right"


@pytest.mark.parametrize(
    ("moves", "parts"),
    [
        (MOVES["mixed"], ["pan_right", "tilt_down"]),
        (MOVES["zoom_in"], ["zoom_in"]),
        (MOVES["shake"], []),
        (MOVES["static"], []),
        ([shift(-4 * t, -0.5 * t) for t in range(FRAMES)], ["pan_right"]),
    ],
)
def test_the_parts_of_a_motion_are_those_beyond_its_noise(moves: list[np.ndarray], parts: list[str]) -> None:
    frames = seen(moves)
    assert classical.components_of(classical.measure(frames, frames, RULES), RULES) == parts


def test_two_scenes_one_after_the_other_are_a_cut() -> None:
    frames = seen(MOVES["static"][:4]) + [255 - frame // 2 for frame in seen(MOVES["static"][4:])]
    assert classical.label_of(classical.measure(frames, frames, RULES), RULES) == "cut"


def test_a_gray_picture_is_not_known() -> None:
    frames = [np.full((240, 320, 3), 127, np.uint8)] * FRAMES
    assert classical.label_of(classical.measure(frames, frames, RULES), RULES) == "unknown"


def test_pyscenedetect_finds_the_cut_and_none_without_it() -> None:
    pytest.importorskip("scenedetect", reason="the extra `bench` is not installed")
    still = seen([shift(0, 0)]) * 12
    other = [255 - frame // 2 for frame in still]
    assert classical.scene_cut([*still, *other])
    assert not classical.scene_cut([*still, *still])


def test_a_window_is_sampled_where_it_lies(tmp_path: Path) -> None:
    path = write_still(tmp_path / "a.mp4", 1, frames=60, panned=2)
    sampled, between = classical.read_window(path, 0.5, 0.5 + 32 / 30)
    assert len(sampled) == FRAMES
    assert len(between) == 29
    np.testing.assert_array_equal(between[::4], sampled)


def test_a_window_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_still(tmp_path / "a.mp4", 1, frames=10)
    sampled, _ = classical.read_window(path, 5.0, 6.0)  # the last frame stands for what comes after
    assert all((frame == sampled[0]).all() for frame in sampled)


def test_answers_are_written_for_every_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scenedetect", reason="the extra `bench` is not installed")
    write_still(tmp_path / "still.mp4", 1, frames=40)
    write_still(tmp_path / "panned.mp4", 1, frames=40, panned=2)
    table = tmp_path / "truth.csv"
    table.write_text("file,start_s,end_s,truth\nstill.mp4,0,1.0667,static\npanned.mp4,0.1,1.1667,mixed\n")
    monkeypatch.setattr("sys.argv", ["classical_motion", str(table), "--out", str(tmp_path / "answers")])
    classical.main()
    with (tmp_path / "answers" / "classical.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["static", "pan_right"]
    assert all(float(row["cpu_s"]) > 0 for row in rows)
    windows = read_windows(tmp_path / "answers" / "truth.csv")
    assert [window.components for window in windows] == [(), ("pan_right",)]
    with (tmp_path / "answers" / "pyscenedetect.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["", ""]
