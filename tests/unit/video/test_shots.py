"""Shot boundaries: found at the frame, wherever they lie between the sampled ones, and respected by windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.contracts import JobRequest
from service.errors import TooManyClips
from service.video.windows import Window, plan_windows
from testing.shot_videos import HEIGHT, WIDTH, Scene, frames_of, write_shots
from testing.videos import Image, write_video
from tests.unit.video.common import decode, limits, spec

ALL = JobRequest(windows="all")
SPLIT = JobRequest(windows="all", split="shots")
SPAN = 8 * 4 / 30


def cuts(path: Path, request: JobRequest = ALL, **changes: int) -> list[float]:
    answer, _ = decode(path, request, bounds=limits(**changes))
    assert answer.boundaries is not None
    return [boundary.end_s for boundary in answer.boundaries if boundary.transition == "cut"]


@pytest.mark.parametrize("phase", range(0, 33, 4))
def test_a_cut_is_found_at_its_frame_at_any_phase_against_the_windows(tmp_path: Path, phase: int) -> None:
    # A window of 32 frames, sampled every fourth: the last phases lie between the last frame of a window and the next.
    path = write_shots(tmp_path / "a.mp4", [Scene(34 + phase), Scene(45, pan=1)], seed=phase)
    assert cuts(path) == [pytest.approx((34 + phase) / 30)]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_cut_is_found_at_each_frame_between_two_sampled_ones(tmp_path: Path, step: int) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(60 + step), Scene(50)], gop=250, seed=step)
    assert cuts(path) == [pytest.approx((60 + step) / 30)]


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "mpeg4"), ("mkv", "libx264"), ("ts", "libx264")])
def test_a_cut_is_found_at_its_frame_in_any_container(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_shots(tmp_path / f"a.{suffix}", [Scene(50), Scene(41), Scene(47)], codec=codec, b_frames=0)
    assert cuts(path) == pytest.approx([50 / 30, 91 / 30], abs=1e-3)


@pytest.mark.slow
def test_a_cut_is_found_at_its_frame_where_only_the_ends_of_a_long_file_were_read(tmp_path: Path) -> None:
    frames = frames_of([Scene(40, pan=0.5), Scene(40)])
    path = tmp_path / "a.mp4"
    write_video(path, 4100, size=(WIDTH, HEIGHT), draw=lambda number, width, height: frames[min(number, 79)], gop=30)
    assert cuts(path, JobRequest(windows="all", end=4)) == [pytest.approx(40 / 30)]


def test_cuts_are_found_where_windows_are_chosen_by_frame_number(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(50), Scene(60)])
    answer, _ = decode(path, ALL, spec(sampling="index"))
    assert [boundary.end_s for boundary in answer.boundaries or ()] == [pytest.approx(50 / 30)]


def test_a_camera_that_turns_quickly_makes_no_cut(tmp_path: Path) -> None:
    assert cuts(write_shots(tmp_path / "a.mp4", [Scene(120, pan=4)])) == []


def test_a_camera_that_zooms_makes_no_dissolve(tmp_path: Path) -> None:
    scene = frames_of([Scene(1)], seed=3)[0]
    rows, columns = np.arange(HEIGHT) - HEIGHT / 2, np.arange(WIDTH) - WIDTH / 2

    def closer(number: int, width: int, height: int) -> Image:
        near = np.exp(-number / 90)
        y, x = (near * rows + HEIGHT / 2).astype(int), (near * columns + WIDTH / 2).astype(int)
        return np.asarray(scene[y][:, x], dtype=np.uint8)

    answer, _ = decode(write_video(tmp_path / "a.mp4", 90, size=(WIDTH, HEIGHT), draw=closer), ALL)
    assert answer.boundaries == ()


def test_a_flash_is_no_cut(tmp_path: Path) -> None:
    frames = frames_of([Scene(100)])
    frames[50:53] = [np.clip(frame.astype(int) + 150, 0, 255).astype(np.uint8) for frame in frames[50:53]]
    size = (frames[0].shape[1], frames[0].shape[0])
    path = write_video(tmp_path / "a.mp4", 100, size=size, draw=lambda number, width, height: frames[number])
    assert cuts(path) == []


def test_a_dissolve_is_a_boundary_with_a_beginning_and_an_end(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(45, dissolve=24), Scene(60, pan=0.5)])
    answer, _ = decode(path, ALL)
    assert answer.boundaries is not None
    (found,) = answer.boundaries
    assert found.transition == "dissolve"
    assert (found.start_s, found.end_s) == pytest.approx((45 / 30, 69 / 30), abs=0.2)


def test_a_request_that_asks_for_no_shots_gets_no_boundaries(tmp_path: Path) -> None:
    answer, _ = decode(write_shots(tmp_path / "a.mp4", [Scene(40), Scene(40)]), JobRequest(windows=2))
    assert answer.boundaries is None


def test_cuts_beyond_the_frames_that_may_be_decoded_lie_between_the_sampled_frames(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(50), Scene(46)], gop=500, b_frames=0)
    exact = cuts(path)
    rough = cuts(path, max_decoded_frames=100)
    assert exact == [pytest.approx(50 / 30)]
    assert rough == [pytest.approx(50 / 30, abs=4 / 30)]


def test_shots_beyond_the_limit_are_joined_with_a_warning(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(35), Scene(35), Scene(35), Scene(35)])
    answer, _ = decode(path, ALL, bounds=limits(max_shots=2))
    assert len(answer.boundaries or ()) == 1
    assert [warning.code for warning in answer.warnings] == ["shots_joined"]


def test_no_window_crosses_a_cut_where_the_video_is_split(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(45), Scene(70), Scene(40)])
    answer, clips = decode(path, SPLIT, spec(height=90, width=160, resize_short_side=90))
    starts = [45 / 30, 115 / 30]
    assert all(not window.start_s < at < window.end_s for window in answer.windows for at in starts)
    scenes = [frames_of([Scene(45), Scene(70), Scene(40)])[frame] for frame in (0, 60, 130)]
    for window, clip in zip(answer.windows, clips[:, 0], strict=True):
        scene = scenes[sum(at <= window.start_s + 1e-6 for at in starts)]
        assert all(np.abs(picture.astype(int) - scene).mean() < 12 for picture in clip)


def planned(request: JobRequest, starts_s: list[float], duration_s: float = 10.0, **changes: int) -> list[Window]:
    return plan_windows(duration_s, [], 1 / 30, spec(), request, limits(**changes), starts_s)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_number_of_windows_is_kept_and_each_moved_into_the_shot_of_its_middle(count: int) -> None:
    starts = [2.2, 4.9, 5.4]
    windows = planned(JobRequest(windows=count, split="shots"), starts)
    assert len(windows) == count
    assert all(not window.start_s < at < window.end_s for window in windows for at in starts)


def test_each_shot_is_covered_to_its_last_frame() -> None:
    windows = planned(SPLIT, [3.0])
    ends = [window.end_s for window in windows]
    assert 3.0 in ends
    assert ends[-1] == 10.0
    assert max(time for window in windows if window.end_s <= 3.0 for time in window.wanted_s) < 3.0


def test_a_shot_shorter_than_a_window_repeats_its_last_frame() -> None:
    (_, short, *_) = planned(JobRequest(windows="all", split="shots", end=4.0), [2 * SPAN - 0.5, 2 * SPAN])[1:]
    assert (short.start_s, short.end_s) == pytest.approx((2 * SPAN - 0.5, 2 * SPAN))
    assert short.repeated == 4


def test_the_windows_of_all_shots_together_are_limited() -> None:
    with pytest.raises(TooManyClips, match="10 windows x 1 crops"):
        planned(SPLIT, [1.0, 2.0], max_clips_per_job=9)


def test_overlapping_windows_share_their_pictures(tmp_path: Path) -> None:
    path = write_shots(tmp_path / "a.mp4", [Scene(200, pan=0.7)], gop=48)
    once, _ = decode(path, ALL)
    twice, clips = decode(path, JobRequest(windows="all", stride=SPAN / 2))
    assert twice.video.frames_decoded <= 1.15 * once.video.frames_decoded
    assert len(twice.windows) == 2 * len(once.windows) - 2
    for before, after in zip(clips[:-2, 0], clips[1:-1, 0], strict=True):
        assert np.array_equal(before[4:], after[:4])


def test_windows_whose_times_do_not_coincide_show_the_frames_of_their_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 90)
    answer, _ = decode(path, JobRequest(windows="all", stride=0.21))
    for number, window in enumerate(answer.windows[:-1]):
        wanted = [0.21 * number + k * 4 / 30 for k in range(8)]
        assert window.times_s == pytest.approx([int(at * 30 + 1e-3) / 30 for at in wanted])
