"""Classification without a server."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.in_process import classifier_in_process
from service.cli.main import app
from service.contracts import JobRequest, WindowResult
from service.errors import InvalidOption, VideoTooShort
from service.settings import Settings
from testing.object_stores import S3Server
from testing.range_server import RangeServer, Served
from testing.videos import write_video
from tests.fixtures.tiny_models import FRAMES, write_repository


def test_windows_are_reported_as_they_are_scored_and_as_the_answer_has_them(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models")
    settings = Settings(_env_file=None, model_repository=repository, default_model="tiny", decode_workers=1)
    video = write_video(tmp_path / "clip.mp4", frames=90)
    reported: list[tuple[int, WindowResult]] = []
    with classifier_in_process(settings) as classifier:
        options = JobRequest(windows="all", crops=3)
        result = classifier.classify(video, options, lambda index, window: reported.append((index, window)))
    assert len(reported) > 1
    assert reported == list(enumerate(result.windows))


def test_the_evidence_of_a_window_shares_what_its_first_label_gains_over_a_still_clip(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models")
    settings = Settings(_env_file=None, model_repository=repository, default_model="tiny", decode_workers=1)
    video = write_video(tmp_path / "clip.mp4", frames=90)
    with classifier_in_process(settings) as classifier:
        options = JobRequest(windows=2, crops=3, evidence="causal")
        result = classifier.classify(video, options)
    assert len(result.windows) == 2
    for window in result.windows:
        first, found = window.predictions[0], window.evidence
        assert found is not None
        assert found.label == first.label
        assert found.score == pytest.approx(first.score, abs=1e-5)
        gained = sum(frame.contribution for frame in found.frames)
        assert gained == pytest.approx(found.score - found.still_score, abs=1e-4)
        assert found.forwards == 3 << FRAMES


def test_evidence_for_a_label_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "models")
    settings = Settings(_env_file=None, model_repository=repository, default_model="tiny", decode_workers=1)
    video = write_video(tmp_path / "clip.mp4", frames=40)
    with (
        classifier_in_process(settings) as classifier,
        pytest.raises(InvalidOption, match="Its labels: static, pan_left, pan_right"),
    ):
        classifier.classify(video, JobRequest(evidence="causal", evidence_label="jump"))


def test_a_causal_report_is_a_page(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", frames=40)
    run = CliRunner().invoke(app, ["explain", str(video), "--causal", "-o", str(tmp_path / "r.png")])
    assert run.exit_code == 2
    assert "part of a page" in " ".join(re.sub(r"[│╭╮╰╯─]", " ", run.output).split())


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


def classify(
    folder: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, list[dict[str, object]]]:
    """Exit status of `vidtr classify --jsonl` with a tiny model, and its records in the order of their names."""
    monkeypatch.setenv("VIDTR_SOURCE_S3_ENDPOINT", s3.endpoint)
    monkeypatch.setenv("VIDTR_SOURCE_S3_CREDENTIALS_FILE", str(s3.credentials))
    monkeypatch.setenv("VIDTR_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("VIDTR_DECODE_WORKERS", "1")
    repository = write_repository(folder / "models")
    run = CliRunner().invoke(app, ["classify", "--jsonl", "--repository", str(repository), *map(str, arguments)])
    records = [json.loads(line) for line in run.stdout.splitlines()]
    return run.exit_code, sorted(records, key=lambda record: str(record["file"]))


def test_a_prefix_of_a_bucket_is_classified_without_a_service(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_video(tmp_path / "clip.mp4", frames=40).read_bytes()
    for key in ("below/a.mp4", "below/deep/b.mp4", "below/notes.txt", "beside.mp4"):
        s3.put(key, data)
    status, found = classify(tmp_path, s3, monkeypatch, "s3://films/below/")
    assert status == 0
    assert [record["file"] for record in found] == ["s3://films/below/a.mp4", "s3://films/below/deep/b.mp4"]
    assert found[0]["source"]["bytes_total"] == len(data)  # type: ignore[index]
    assert found[0]["predictions"] == found[1]["predictions"]


def test_a_manifest_is_classified_without_a_service_each_line_with_its_options(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_video(tmp_path / "clip.mp4", frames=40).read_bytes()
    manifest = tmp_path / "manifest.csv"
    with RangeServer() as server:
        ranged = server.serve("/ranged.mp4", Served(data))
        whole = server.serve("/whole.mp4", Served(data, ranges=False))
        lines = ["url,id,top_k", f"{ranged},a,2", f"{whole},b,", f"{s3.put('c.mp4', data)},,", "s3://films/absent,d,"]
        manifest.write_text("\n".join(lines))
        status, found = classify(tmp_path, s3, monkeypatch, "--manifest", manifest, "--top-k", 1)
    assert status == 1
    assert [record["file"] for record in found] == ["a", "b", "d", "s3://films/c.mp4"]
    assert [len(record.get("predictions", ())) for record in found] == [2, 1, 0, 1]  # type: ignore[arg-type]
    assert found[2]["error"]["code"] == "source_refused"  # type: ignore[index]


def test_a_manifest_with_a_wrong_line_is_wrong_usage(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("{}\n")
    assert classify(tmp_path, s3, monkeypatch, "--manifest", manifest) == (2, [])
    assert classify(tmp_path, s3, monkeypatch, "s3://absent/") == (2, [])
