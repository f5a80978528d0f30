"""Real footage, where it lies beside the repository: every file gets a sensible answer or a named refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.contracts import JobRequest
from service.errors import ContainerNotAllowed, Undecodable, VideoTooShort, VidtrError
from service.video.clips import decode_file
from tests.unit.video.common import LIMITS, SHARED, SPEC

CLIPS = SHARED / "clips"
REFUSED: dict[str, type[VidtrError]] = {
    "androidx__mp4__sample_malformed_free_box.mp4": Undecodable,
    "decord__unordered.mov": VideoTooShort,
    "decord__video_0.mov": VideoTooShort,
    "decord__video_180.mov": VideoTooShort,
    "decord__video_90.mov": VideoTooShort,
    "derived__arm_wrestling_animated.webp": ContainerNotAllowed,
    "derived__demo_truncated_60pct.mp4": Undecodable,
    "torchcodec__nasa_13013.mp4.audio.mp3": ContainerNotAllowed,
    "CLIPS.csv": ContainerNotAllowed,
    "README.md": ContainerNotAllowed,
}
WARNED = {
    "androidx__mp4__sample_android_slow_motion.mp4": "frames_repeated few_frames",
    "androidx__mp4__hdr10-av1.mp4": "high_dynamic_range",
    "decord__corrupted.mp4": "damaged_video",
    "derived__pancake_truncated_50pct.mkv": "truncated_video",
    "imageio__newtonscradle.gif": "frames_repeated",
}
FILES = sorted(CLIPS.iterdir()) if CLIPS.is_dir() else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_real_file_is_answered_or_refused_by_name(path: Path, tmp_path: Path) -> None:
    if error := REFUSED.get(path.name):
        with pytest.raises(error):
            decode_file(path, tmp_path / "out", SPEC, JobRequest(), LIMITS)
        return
    answer = decode_file(path, tmp_path / "out", SPEC, JobRequest(), LIMITS)
    assert (tmp_path / "out").stat().st_size == len(answer.clips) * SPEC.clip_bytes
    assert [warning.code for warning in answer.warnings] == WARNED.get(path.name, "").split()
    for window in answer.windows:
        assert all(time <= window.end_s for time in window.times_s)
        assert list(window.times_s) == sorted(window.times_s)
