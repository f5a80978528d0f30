"""Recordings that were joined, and recorders that restart: one continuous time, and every frame within reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.contracts import DecodedVideo, JobRequest
from testing.videos import number_of, numbered, remux, write_video
from tests.unit.video.common import decode, limits, spec

FRAMES = 60
EVERY_FRAME = spec(frames=8, frame_step=1)


def second_part(number: int, width: int, height: int) -> NDArray[np.uint8]:
    return numbered(number + FRAMES, width, height)


def joined(folder: Path, suffix: str, offset_s: float = 0.0, first_s: float = 0.0, **options: Any) -> Path:
    """Two recordings one after the other, frames 0 to 59 and 60 to 119, of clocks that start at these times."""
    first = write_video(folder / "first.mp4", FRAMES, **options)
    second = write_video(folder / "second.mp4", FRAMES, draw=second_part, **options)
    path = folder / f"joined.{suffix}"
    parts = (remux(first, folder / f"a.{suffix}", first_s), remux(second, folder / f"b.{suffix}", offset_s))
    # A recorder that goes on writes no second header into a Flash video.
    header = 13 if suffix == "flv" else 0
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[header:])
    return path


def seen(path: Path) -> tuple[DecodedVideo, set[int]]:
    """The answer, and the numbers of the frames that a request for all windows shows."""
    answer, clips = decode(path, JobRequest(windows="all"), EVERY_FRAME, limits(max_duration_s=3600.0))
    return answer, {number_of(image) for clip in clips[:, 0] for image in clip}


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(("offset_s", "first_s"), [(0, 0), (20, 0), (7200, 0), (90000, 0), (0, 7200), (0, 1)], ids=str)
def test_both_parts_of_joined_transport_streams_are_seen_one_after_the_other(
    tmp_path: Path, offset_s: float, first_s: float, b_frames: int
) -> None:
    answer, numbers = seen(joined(tmp_path, "ts", offset_s, first_s, b_frames=b_frames))
    assert numbers == set(range(2 * FRAMES))
    assert answer.video.duration_s == pytest.approx(4.0, abs=0.001)
    assert answer.video.fps == pytest.approx(30, abs=0.01)
    assert [warning.code for warning in answer.warnings] == ["timestamps_discontinuous"]


def test_both_parts_of_joined_program_streams_are_seen(tmp_path: Path) -> None:
    parts = []
    for name, draw in (("a", numbered), ("b", second_part)):
        part = write_video(tmp_path / f"{name}.mpg", FRAMES, codec="mpeg2video", fps=25, b_frames=0, draw=draw)
        parts.append(part.read_bytes())
    (tmp_path / "joined.vob").write_bytes(b"".join(parts))
    answer, numbers = seen(tmp_path / "joined.vob")
    assert numbers >= set(range(2 * FRAMES - 1))
    assert answer.video.fps == pytest.approx(25, abs=0.2)
    assert answer.video.duration_s == pytest.approx(2 * FRAMES / 25, abs=0.05)


def test_a_flash_video_whose_clock_restarts_is_seen_whole(tmp_path: Path) -> None:
    path = joined(tmp_path, "flv", b_frames=0)
    answer, numbers = seen(path)
    assert numbers == set(range(2 * FRAMES))
    assert "timestamps_discontinuous" in {warning.code for warning in answer.warnings}


@pytest.mark.parametrize(("suffix", "b_frames"), [("mkv", 0), ("mkv", 2)])
def test_recordings_of_a_browser_that_were_put_together_are_seen_whole(
    tmp_path: Path, suffix: str, b_frames: int
) -> None:
    answer, numbers = seen(joined(tmp_path, suffix, b_frames=b_frames))
    assert numbers == set(range(2 * FRAMES))
    assert answer.video.duration_s == pytest.approx(4.0, abs=0.01)
    assert "timestamps_discontinuous" in {warning.code for warning in answer.warnings}


def test_the_warning_says_where_the_clock_jumps_and_how_far(tmp_path: Path) -> None:
    answer, _ = seen(joined(tmp_path, "ts", 7200.0, b_frames=0))
    (warning,) = answer.warnings
    assert "jumps by +7198.0 s at 2.00 s" in warning.detail


def test_three_parts_make_two_jumps(tmp_path: Path) -> None:
    path = joined(tmp_path, "ts")
    path.write_bytes(path.read_bytes() + (tmp_path / "a.ts").read_bytes())
    answer, _ = seen(path)
    (warning,) = answer.warnings
    assert warning.detail.count("by -2.0 s") == 2
    assert answer.video.duration_s == pytest.approx(6.0, abs=0.001)


@pytest.mark.parametrize("suffix", ["ts", "flv"])
def test_a_gap_of_a_few_seconds_stays_a_gap(tmp_path: Path, suffix: str) -> None:
    answer, numbers = seen(joined(tmp_path, suffix, offset_s=6.0, b_frames=0))
    assert numbers == set(range(2 * FRAMES))
    assert answer.video.duration_s == pytest.approx(8.0, abs=0.01)
    assert "timestamps_discontinuous" not in {warning.code for warning in answer.warnings}


def test_a_slow_video_has_no_gaps(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "slow.mkv", 6, times=[20 * number for number in range(6)], b_frames=0)  # type: ignore[misc]
    answer, _ = decode(remux(plain, tmp_path / "slow.ts"), JobRequest(windows=2))
    assert answer.video.duration_s == pytest.approx(120, abs=1)


def test_a_counter_that_wraps_is_no_jump(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", 90, b_frames=0)
    wrapping = remux(plain, tmp_path / "wrap.ts", offset_s=2**33 / 90000 - 2.4)
    answer, numbers = seen(wrapping)
    assert numbers == set(range(90))
    assert answer.video.duration_s == pytest.approx(3.0, abs=0.001)
    assert not answer.warnings


def test_the_frames_of_a_program_stream_with_few_timestamps_are_counted_right(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mpg", 120, fps=30)
    answer, _ = decode(path)
    assert answer.video.duration_s == pytest.approx(4.0, abs=0.001)
    assert answer.video.fps == pytest.approx(30, abs=0.01)


def test_a_gif_in_a_hurry_is_shown_as_slowly_as_browsers_do(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.gif", 20, codec="gif", fps=50)
    data = path.read_bytes()
    # The delay in hundredths of a second follows the flags of each control block.
    path.write_bytes(re.sub(rb"(\x21\xf9\x04.)\x02\x00", b"\\1\x01\x00", data, flags=re.DOTALL))
    assert path.read_bytes() != data
    answer, clips = decode(path, JobRequest(windows=1), spec(frame_step=3))
    assert answer.video.duration_s == pytest.approx(2.0)
    assert answer.video.fps == pytest.approx(10.0)
    assert [number_of(image) for image in clips[0, 0]] == list(range(8))
