"""A checkpoint from elsewhere, imported on the command line, answers through the API as the network it came from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from service.contracts import JobRequest, ModelSpec
from service.inference.spec import spec_from_config
from service.model.factory import Network
from service.model.preprocess import Normalize
from service.model.presets import PRESETS
from service.model.weights.importing import import_checkpoint
from service.model_config import read_config
from testing.program import Program, upload
from testing.videos import write_video
from tests.integration.model.weights.test_importing import LABELS, preset
from tests.unit.model.weights.files import CVIDTR, network, save_as_trained
from tests.unit.video.common import decode


def vidtr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def decided(model: Network) -> Network:
    """The network with a head whose scores differ from class to class: a fresh one hardly prefers any."""
    with torch.no_grad():
        model.fc.weight.mul_(10)
    return model


def expected_scores(model: Network, repository: Path, name: str, video: Path) -> dict[str, float]:
    """Scores of the network itself for the clips that its entry's configuration asks for."""
    spec: ModelSpec = spec_from_config(read_config(repository / name / "config.pbtxt"), "1")
    _, clips = decode(video, JobRequest(), spec)
    with torch.inference_mode():
        logits = model(Normalize()(torch.from_numpy(clips.reshape(-1, *spec.clip_shape)))).logits
    return dict(zip(spec.labels, logits.softmax(-1).mean(0).tolist(), strict=True))


def answered_scores(client: httpx.Client, video: Path, name: str) -> dict[str, float]:
    answer = upload(client, video, model=name, top_k=400)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"]["trained"]
    assert [warning["code"] for warning in body["warnings"]] == []
    return {prediction["label"]: prediction["score"] for prediction in body["predictions"]}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 90, fps=30, size=(96, 64))


@pytest.fixture(scope="module")
def grid() -> Network:
    """The small network that the package names, with other weights than the preset's."""
    return decided(network(PRESETS["untrained_tiny"].config, seed=8))


@pytest.fixture(scope="module")
def sequence() -> Network:
    """A small C-VidTr in the form of the released weights."""
    return decided(network(CVIDTR, seed=8))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, grid: Network, sequence: Network) -> Path:
    directory = tmp_path_factory.mktemp("import")
    labels = directory / "labels.txt"
    labels.write_text("\n".join(PRESETS["untrained_tiny"].card.labels))
    checkpoint = save_as_trained(grid.state_dict(), directory / "grid.pth")
    done = vidtr(
        *("import", checkpoint, "--preset", "untrained_tiny", "--labels", labels, "--name", "grid"),
        *("--repository", directory / "models"),
    )
    assert done.returncode == 0, done.stderr
    import_checkpoint(
        save_as_trained(sequence.state_dict(), directory / "sequence.pth"),
        directory / "models",
        preset=preset("cvidtr"),
        labels=LABELS,
        name="sequence",
        version=1,
    )
    return directory / "models"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[httpx.Client]:
    program = Program(
        tmp_path_factory.mktemp("program"), VIDTR_MODEL_REPOSITORY=str(repository), VIDTR_DEFAULT_MODEL="grid"
    )
    with program, program.client() as client:
        yield client


@pytest.mark.parametrize("name", ["grid", "sequence"])
def test_an_imported_checkpoint_answers_as_the_network_it_came_from(
    imported: httpx.Client, repository: Path, video: Path, name: str, request: pytest.FixtureRequest
) -> None:
    expected = expected_scores(request.getfixturevalue(name), repository, name, video)
    assert answered_scores(imported, video, name) == pytest.approx(expected, abs=1e-4)
    assert max(expected.values()) > 2 / len(expected), "scores that are all alike would hide a wrong answer"


@pytest.mark.slow
def test_a_checkpoint_of_full_size_is_imported_and_answers(tmp_path: Path, video: Path) -> None:
    model = decided(network(PRESETS["cvidtr_s_8x8"].config, seed=8))
    checkpoint = save_as_trained(model.state_dict(), tmp_path / "cvidtr_s_8x8_patch16_224_k400.pth")
    done = vidtr(
        *("import", checkpoint, "--preset", "cvidtr_s_8x8", "--labels", "k400", "--name", "kinetics"),
        *("--repository", tmp_path / "models"),
    )
    assert done.returncode == 0, done.stderr
    program = Program(tmp_path, VIDTR_MODEL_REPOSITORY=str(tmp_path / "models"), VIDTR_DEFAULT_MODEL="kinetics")
    with program, program.client() as client:
        answered = answered_scores(client, video, "kinetics")
    expected = expected_scores(model, tmp_path / "models", "kinetics", video)
    assert answered == pytest.approx(expected, abs=1e-4)
