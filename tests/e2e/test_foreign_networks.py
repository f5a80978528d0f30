"""Each network of another library that has its own page of documentation answers a video through the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
NAME = "network"
CASES = ["timesformer", "vivit", *(pytest.param(name, marks=TORCHVISION) for name in LARGE)]


@dataclass(frozen=True)
class Served:
    """A network behind an API of its own."""

    foreign: Foreign
    repository: Path
    program: Program


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    foreign, repository = make(request.param, folder / "theirs"), folder / "repository"
    with quiet():
        import_foreign(ForeignImport(foreign.source, foreign.path, NAME, values=foreign.values), repository)
    settings = {"VIDTR_MODEL_REPOSITORY": str(repository), "VIDTR_DEFAULT_MODEL": NAME}
    with Program(folder, settings=settings) as program:
        yield Served(foreign, repository, program)


def test_a_video_gets_the_scores_of_the_library(served: Served, clip: Path) -> None:
    with served.program.client() as client:
        answer = upload(client, clip, windows=2)
    assert answer.status_code == 200, answer.text
    spec = spec_from_config(read_config(served.repository / NAME / "config.pbtxt"), "1")
    _, clips = decode(clip, JobRequest(windows=2), spec)
    logits = torch.from_numpy(served.foreign.logits(clips.reshape(-1, *spec.clip_shape)))
    theirs = dict(zip(LABELS, logits.softmax(-1).mean(0).tolist(), strict=True))
    ours = {prediction["label"]: prediction["score"] for prediction in answer.json()["predictions"]}
    assert ours == pytest.approx(theirs, abs=1e-4)
