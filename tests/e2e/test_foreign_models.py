"""Networks of other libraries answer through the API, on the command line and on the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from service.contracts import JobRequest
from service.inference.spec import spec_from_config
from service.model_config import read_config
from testing.program import Program, upload
from tests.e2e.browser import SCREENSHOTS, Visit, chromium
from tests.fixtures.foreign_models import EXTRAS, LABELS, MEAN, STD, Foreign, make
from tests.unit.video.common import decode

pytestmark = EXTRAS
NAMES = ("videomae", "onnx_cnn")
ENGINES = ("torchscript", "triton")


def vidtr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Foreign]:
    return {name: make(name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.fixture(scope="module")
def repository(foreign: dict[str, Foreign], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both networks, imported on the command line; `plain` is one of them without its embedding."""
    folder = tmp_path_factory.mktemp("repository")
    (labels := folder.with_name("labels.txt")).write_text("\n".join(LABELS))
    card = folder.with_name("card.toml")
    card.write_text(f"frames = 4\nsize = 16\nmean = {list(MEAN)}\nstd = {list(STD)}\n")
    (onnx, mae) = (foreign[name].path for name in ("onnx_cnn", "videomae"))
    for arguments in (
        ("--onnx", onnx, "--labels", labels, "--card", card, "--embedding", "pooled", "--name", "onnx_cnn"),
        ("--onnx", onnx, "--labels", labels, "--card", card, "--name", "plain"),
        (f"hf:{mae}", "--name", "videomae"),
    ):
        done = vidtr("import", *arguments, "--repository", folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def program(
    request: pytest.FixtureRequest, repository: Path, triton_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("program"),
        *("--engine", request.param),
        VIDTR_TRITON_DIR=str(triton_directory.resolve()),
        VIDTR_MODEL_REPOSITORY=str(repository),
        VIDTR_DEFAULT_MODEL="videomae",
    )
    with program:
        yield program


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_gets_the_scores_of_the_library(
    program: Program, foreign: dict[str, Foreign], repository: Path, clip: Path, name: str
) -> None:
    with program.client() as client:
        answer = upload(client, clip, model=name)
    assert answer.status_code == 200, answer.text
    spec = spec_from_config(read_config(repository / name / "config.pbtxt"), "1")
    _, clips = decode(clip, JobRequest(), spec)
    logits = torch.from_numpy(foreign[name].logits(clips.reshape(-1, *spec.clip_shape)))
    theirs = dict(zip(LABELS, logits.softmax(-1).mean(0).tolist(), strict=True))
    ours = {prediction["label"]: prediction["score"] for prediction in answer.json()["predictions"]}
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_an_answer_of_a_model_without_attention_has_none(program: Program, clip: Path) -> None:
    with program.client() as client:
        answer = upload(client, clip, attention="layers").json()
    assert [window.keys() & {"attention"} for window in answer["windows"]] == [set()] * len(answer["windows"])


def test_the_embedding_of_a_video_is_the_mean_of_its_windows_of_length_one(program: Program, clip: Path) -> None:
    with program.client() as client:
        answer = upload(client, clip, model="videomae", windows=2, embedding="true").json()
        [listed] = [model for model in client.get("/v1/models").json()["models"] if model["name"] == "videomae"]
    windows = np.array([window["embedding"] for window in answer["windows"]])
    mean = windows.mean(axis=0)
    assert windows.shape[1] == listed["embedding"] > 0
    assert not listed["attention"]
    np.testing.assert_allclose(np.linalg.norm(windows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(answer["embedding"], mean / np.linalg.norm(mean), atol=1e-5)


def test_an_embedding_of_a_model_that_gives_none_is_refused(program: Program, clip: Path) -> None:
    with program.client() as client:
        answer = upload(client, clip, model="plain", embedding="true")
    assert (answer.status_code, answer.json().get("code")) == (422, "invalid_option"), answer.text
    assert "model 'plain' in version 1, which gives no embedding" in answer.json()["detail"]


@pytest.mark.parametrize("form", [".html", ".png"])
def test_a_report_says_that_the_model_gives_no_attention(
    repository: Path, clip: Path, tmp_path: Path, form: str
) -> None:
    report = tmp_path / f"report{form}"
    done = vidtr("explain", clip, "--model", "videomae", "--repository", repository, "--output", report)
    assert done.returncode == 0, done.stderr
    content = report.read_bytes()
    assert content.startswith(b"\x89PNG") if form == ".png" else b"This model gives no attention" in content


def test_causal_evidence_explains_a_model_without_attention(repository: Path, clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = vidtr("explain", clip, "--causal", "--model", "onnx_cnn", "--repository", repository, "-o", report)
    assert done.returncode == 0, done.stderr
    assert "What each frame contributes to" in report.read_text()


def test_a_classification_on_the_command_line_needs_no_attention(repository: Path, clip: Path) -> None:
    done = vidtr("classify", clip, "--model", "videomae", "--embedding", "--json", "--repository", repository)
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)
    assert answer["predictions"][0]["label"] in LABELS
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_the_page_shows_an_answer_without_attention(program: Program, clip: Path) -> None:
    with chromium() as browser, closing(Visit(browser, program.url)) as visit:
        page = visit.classify(clip)
        expect(page.locator("#looked")).to_contain_text("This model gives no attention")
        expect(page.locator("#strip")).to_be_hidden()
        expect(page.locator("#strip-note")).to_be_hidden()
        assert page.locator("#labels li, #labels tr").count() > 0
        page.locator("#video").evaluate("video => { video.currentTime = 0.5 }")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        visit.screenshot("no-attention")
