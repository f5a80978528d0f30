"""Classification without a server."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from service.cli.in_process import classifier_in_process
from service.contracts import JobRequest
from service.errors import VideoTooShort
from service.settings import Settings
from testing.videos import write_video
from tests.fixtures.tiny_models import write_repository


@pytest.mark.parametrize("frames", [2, 40])
def test_a_file_leaves_no_clips_behind_whether_it_is_scored_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    repository = write_repository(tmp_path / "models")
    settings = Settings(_env_file=None, model_repository=repository, default_model="tiny", decode_workers=1)
    video = write_video(tmp_path / "clip.mp4", frames=frames)
    with classifier_in_process(settings) as classifier:
        if frames == 2:
            with pytest.raises(VideoTooShort):
                classifier.classify(video, JobRequest(crops=3))
        else:
            assert classifier.classify(video, JobRequest(crops=3)).predictions
        (folder,) = scratch.glob("vidtr-classify-*")
        assert list(folder.iterdir()) == []
