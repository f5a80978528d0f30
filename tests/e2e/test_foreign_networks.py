"""Each network of another library that has its own page of documentation answers a video through the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.contracts import JobRequest
from service.foreign_models.foreign_import import ForeignImport, import_foreign
from service.inference.spec import spec_from_config
from service.model_config import read_config
from testing.program import Program, upload
from tests.fixtures.foreign_models import EXTRAS, LABELS, LARGE, TORCHVISION, Foreign, make, quiet
from tests.unit.video.common import decode

pytestmark = [*EXTRAS, pytest.mark.slow]
OF_TRANSFORMERS = ("timesformer", "vivit")
CASES = [*OF_TRANSFORMERS, *(pytest.param(name, marks=TORCHVISION) for name in LARGE)]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Foreign]:
    """Those that can be made here, by name."""
    names = OF_TRANSFORMERS if TORCHVISION.args[0] else (*OF_TRANSFORMERS, *LARGE)
    return {name: make(name, tmp_path_factory.mktemp(name)) for name in names}


@pytest.fixture(scope="module")
def repository(networks: dict[str, Foreign], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    with quiet():
        for name, foreign in networks.items():
            import_foreign(ForeignImport(foreign.source, foreign.path, name, values=foreign.values), folder)
    return folder


@pytest.fixture(scope="module")
def program(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("program"),
        VIDTR_MODEL_REPOSITORY=str(repository),
        VIDTR_DEFAULT_MODEL=OF_TRANSFORMERS[0],
    )
    try:
        program.start()
        yield program
    finally:
        program.stop()


@pytest.mark.parametrize("name", CASES)
def test_a_video_gets_the_scores_of_the_library(
    program: Program, networks: dict[str, Foreign], repository: Path, clip: Path, name: str
) -> None:
    with program.client() as client:
        answer = upload(client, clip, model=name, windows=2)
    assert answer.status_code == 200, answer.text
    spec = spec_from_config(read_config(repository / name / "config.pbtxt"), "1")
    _, clips = decode(clip, JobRequest(windows=2), spec)
    logits = torch.from_numpy(networks[name].logits(clips.reshape(-1, *spec.clip_shape)))
    theirs = dict(zip(LABELS, logits.softmax(-1).mean(0).tolist(), strict=True))
    ours = {prediction["label"]: prediction["score"] for prediction in answer.json()["predictions"]}
    assert ours == pytest.approx(theirs, abs=1e-4)
