"""Screens that stand still, and pictures that come slowly: what counts is time, not the number of pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from service.contracts import JobRequest
from service.errors import VideoTooShort
from testing.videos import numbered, write_video
from tests.unit.video.common import decode


def still(number: int, width: int, height: int) -> np.ndarray:
    return numbered(5, width, height)


def test_a_screen_that_stands_still_for_minutes_is_answered_with_a_warning(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(33, 1000), Fraction(180)]
    answer, _ = decode(write_video(tmp_path / "a.mkv", 3, times=times, draw=still))
    (warning,) = answer.warnings
    assert warning.code == "few_frames"
    assert "the video has 3 in 180" in warning.detail


def test_the_same_screen_gets_the_same_clips_at_a_constant_and_at_a_variable_rate(tmp_path: Path) -> None:
    qp = {"x264-params": "qp=0"}
    times = [Fraction(0), Fraction(33, 1000), Fraction(4)]
    variable = write_video(tmp_path / "v.mkv", 3, times=times, draw=still, codec_options=qp)
    constant = write_video(tmp_path / "c.mkv", 121, draw=still, codec_options=qp)
    _, few = decode(variable, JobRequest(windows=2))
    _, many = decode(constant, JobRequest(windows=2))
    np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize(("fps", "windows"), [(Fraction(1), 1), (Fraction(1), "auto"), (Fraction(1, 10), 2)])
def test_a_slow_video_is_answered_with_a_warning(tmp_path: Path, fps: Fraction, windows: int) -> None:
    answer, _ = decode(write_video(tmp_path / "a.mp4", 20, fps=fps), JobRequest(windows=windows))
    assert [warning.code for warning in answer.warnings] == ["few_frames"]


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_what_is_short_is_too_short_at_any_rate(tmp_path: Path, frames: int) -> None:
    path = write_video(tmp_path / "a.mkv", frames, fps=30)
    with pytest.raises(VideoTooShort, match=r"from 0\.\d+ s of video.*Send a longer piece"):
        decode(path)


def test_one_frame_is_named_in_the_singular(tmp_path: Path) -> None:
    with pytest.raises(VideoTooShort, match="Only 1 different frame can"):
        decode(write_video(tmp_path / "a.mp4", 1))


def test_a_steady_video_has_no_warning(tmp_path: Path) -> None:
    answer, _ = decode(write_video(tmp_path / "a.mp4", 90, fps=10), JobRequest(windows="all"))
    assert not answer.warnings
