"""Answers as files, asked of the running program and of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import webvtt

from service.exports.formats import FORMATS
from testing.program import Program, upload


@pytest.fixture(scope="module")
def job(program: Program, clip: Path) -> dict[str, object]:
    """A finished job with its result."""
    with program.client() as client:
        answer: dict[str, object] = upload(client, clip, windows="2").json()
        return answer


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_job_is_given_in_every_format(client: httpx.Client, job: dict[str, object], form: str) -> None:
    response = client.get(f"/v1/jobs/{job['id']}/result", params={"format": form, "name": "Über film.mp4"})
    assert response.is_success, response.text
    assert response.headers["content-type"].partition(";")[0] == FORMATS[form].media_type
    extension = FORMATS[form].extension
    assert response.headers["content-disposition"] == f"attachment; filename*=UTF-8''%C3%9Cber%20film.{extension}"
    if form == "json":
        assert response.json() == job
    if form == "vtt":
        assert len(webvtt.from_string(response.text).captions) == len(job["events"])  # type: ignore[arg-type]


def test_accept_chooses_the_format_where_the_query_does_not(client: httpx.Client, job: dict[str, object]) -> None:
    path = f"/v1/jobs/{job['id']}/result"
    assert client.get(path, headers={"Accept": "text/vtt"}).text.startswith("WEBVTT\n")
    assert client.get(path).json()["id"] == job["id"]
    assert client.get(path, params={"format": "csv"}, headers={"Accept": "text/vtt"}).text.startswith("file,label")


def test_an_unknown_format_is_refused_with_the_known_ones(client: httpx.Client, job: dict[str, object]) -> None:
    problem = client.get(f"/v1/jobs/{job['id']}/result", params={"format": "pdf"}).json()
    assert problem["code"] == "invalid_option"
    assert all(form in problem["detail"] for form in FORMATS)


def test_shots_that_were_not_looked_for_are_refused_with_what_to_do(
    client: httpx.Client, job: dict[str, object]
) -> None:
    response = client.get(f"/v1/jobs/{job['id']}/result", params={"format": "vtt", "of": "shots"})
    assert (response.status_code, response.json()["code"]) == (409, "nothing_to_export")
    assert "windows=all" in response.json()["detail"]


def test_a_job_that_does_not_exist_has_no_result(client: httpx.Client) -> None:
    assert client.get(f"/v1/jobs/{uuid4().hex}/result").json()["code"] == "unknown_job"


def classify(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", "classify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_line_writes_a_file_for_each_video_into_a_folder(
    program: Program, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "out").mkdir()
    done = classify("--server", program.url, "--format", "srt", "-o", tmp_path / "out", clip, tmp_path / "other.mp4")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"clip.srt", "other.srt"}


def test_the_command_line_writes_all_videos_into_one_file_where_the_format_has_room(
    program: Program, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    done = classify("--server", program.url, "--format", "activitynet", clip, tmp_path / "other.mp4")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["results"]) == {"clip", "other"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "pdf", "a.mp4"], "must be one of json, csv"),
        (["--format", "vtt", "--of", "cuts", "a.mp4"], "must be one of events, shots"),
        (["--format", "vtt", "--json", "a.mp4"], "goes with none of"),
    ],
)
def test_the_command_line_refuses_what_makes_no_file(arguments: list[str], said: str) -> None:
    done = classify(*arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
