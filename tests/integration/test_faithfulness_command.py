"""`vidtr evaluate --faithfulness --write` on real videos, and what commands say of a model that was measured."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.inference.registry import scan_repository
from tests.e2e.test_classify import moving_camera
from tests.fixtures.extras import TRAINING
from tests.fixtures.servers import SHIPPED_REPOSITORY

pytestmark = [pytest.mark.slow, TRAINING]

MODEL = "camera_motion"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for label in ("pan_left", "pan_right"):
        moving_camera(folder / f"{label}.mp4", label)
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    """The repository with the bundled model, measured on two clips."""
    repository = tmp_path_factory.mktemp("measured") / "models"
    shutil.copytree(SHIPPED_REPOSITORY, repository)
    run = evaluated(repository / MODEL, "--faithfulness", "2", "--videos", str(videos), "--write")
    assert run.exit_code == 0, run.output
    return repository


def evaluated(target: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", str(target), *options])


def test_what_is_measured_stands_in_the_configuration_of_the_model(measured: Path) -> None:
    [spec] = [file.spec for file in scan_repository(measured) if file.spec.name == MODEL]
    assert spec.faithfulness is not None
    assert (spec.faithfulness.source, spec.faithfulness.clips) == ("videos", 2)
    assert {need.label for need in spec.faithfulness.needs_time} <= {"pan_left", "pan_right"}
    assert all(need.still < need.score for need in spec.faithfulness.needs_time)


@pytest.mark.parametrize("command", [("classify",), ("explain", "-o", "report.html")])
def test_commands_say_it_beside_attention(
    measured: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(
        app, [*command, str(videos / "pan_left.mp4"), "--windows", "1", "--repository", str(measured)]
    )
    assert run.exit_code == 0, run.output
    said = run.stdout if command == ("classify",) else Path("report.html").read_text()
    assert "of what is attainable in telling which frames a label rests on, measured on 2 clips" in said


def test_a_model_that_was_not_measured_claims_nothing(measured: Path, videos: Path, tmp_path: Path) -> None:
    unmeasured = tmp_path / "models"
    shutil.copytree(measured, unmeasured)
    config = unmeasured / MODEL / "config.pbtxt"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if '"faithfulness"' not in line))
    run = CliRunner().invoke(app, ["classify", str(videos / "pan_left.mp4"), "--repository", str(unmeasured)])
    assert run.exit_code == 0, run.output
    assert "attainable" not in run.output


def test_what_cannot_be_measured_or_kept_is_refused(measured: Path, tmp_path: Path) -> None:
    model = measured / MODEL
    nothing = evaluated(model, "--faithfulness", "2", "--videos", str(tmp_path), "--write")
    assert (nothing.exit_code, "holds no video that decodes" in _words(nothing)) == (2, True)
    unasked = evaluated(model, "--write", "--out", str(tmp_path))
    assert (unasked.exit_code, "keeps what --faithfulness measures" in _words(unasked)) == (2, True)


def _words(run: Result) -> str:
    """What was printed, without the frame and the line breaks of an error."""
    return " ".join(run.output.replace("│", " ").split())
