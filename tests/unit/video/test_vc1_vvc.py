"""Codecs for which the tests have no encoder: VC-1 is written by the tests themselves, VVC was encoded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.contracts import JobRequest
from testing.vc1_videos import Profile, write_vc1
from testing.videos import number_of
from tests.unit.video.common import decode

VVC = Path(__file__).parents[2] / "data" / "vvc"
FPS = 30


def shown_numbers(path: Path, request: JobRequest) -> tuple[list[int], list[int]]:
    """The numbers that the sampled pictures show, and those that their times ask for."""
    answer, clips = decode(path, request)
    assert not [warning for warning in answer.warnings if warning.code != "frames_repeated"]
    times = [time for window in answer.windows for time in window.times_s]
    return [number_of(picture) for clip in clips[:, 0] for picture in clip], [round(time * FPS) for time in times]


@pytest.mark.parametrize("start", [0.0, 0.7])
@pytest.mark.parametrize(
    ("profile", "suffix"), [("wmv3", "wmv"), ("wmv3", "avi"), ("vc1", "wmv"), ("vc1", "avi"), ("vc1", "mov")]
)
def test_each_picture_of_vc1_is_shown_at_its_time(tmp_path: Path, profile: Profile, suffix: str, start: float) -> None:
    path = write_vc1(tmp_path / f"a.{suffix}", 60, fps=FPS, profile=profile)
    shown, wanted = shown_numbers(path, JobRequest(windows="all", start=start))
    assert shown == wanted
    assert len(set(shown)) > 7


@pytest.mark.parametrize("start", [0.0, 1.2])
@pytest.mark.parametrize("name", ["leading_pictures", "open_groups", "closed_groups"])
def test_each_picture_of_vvc_is_shown_at_its_time(tmp_path: Path, name: str, start: float) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes((VVC / f"{name}.mp4").read_bytes())
    shown, wanted = shown_numbers(path, JobRequest(windows="all", start=start))
    assert shown == wanted
    assert len(set(shown)) > 7
