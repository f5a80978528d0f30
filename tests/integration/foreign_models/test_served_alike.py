"""Networks of other libraries compute what they compute there, in process and behind the real Triton."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.contracts import ModelSpec
from service.foreign_models.foreign_import import ForeignImport, import_foreign
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from tests.fixtures.foreign_models import EXTRAS, LABELS, LARGE, SMALL, TORCHVISION, Foreign, make, quiet

pytestmark = EXTRAS
TOLERANCE = 1e-4
CASES = [*SMALL, *(pytest.param(name, marks=[pytest.mark.slow, TORCHVISION]) for name in LARGE)]


class Served:
    """A network, imported into a repository of its own and loaded by a Triton of its own."""

    def __init__(self, name: str, folder: Path, triton: Path) -> None:
        self.foreign: Foreign = make(name, folder / "theirs")
        self.name = name
        self.repository = folder / "repository"
        given = ForeignImport(self.foreign.source, self.foreign.path, name, values=self.foreign.values)
        with quiet():
            import_foreign(given, self.repository)
        self.server = LocalTriton(triton, self.repository, log=folder / "triton.log")


@pytest.fixture(scope="module", params=CASES)
def served(
    request: pytest.FixtureRequest, triton_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    served = Served(request.param, tmp_path_factory.mktemp(request.param), triton_directory)
    with served.server:
        yield served


async def scores_of(backend: Backend, name: str) -> tuple[ModelSpec, Clips, Scores]:
    """Clips of noise, and what the backend says of them."""
    await backend.start()
    try:
        [spec] = await backend.models()
        clips = np.random.default_rng(1).integers(0, 256, (2, *spec.clip_shape), dtype=np.uint8)
        return spec, clips, await backend.infer(name, "1", clips)
    finally:
        await backend.close()


async def test_the_engine_in_process_gives_the_logits_of_the_library(served: Served) -> None:
    spec, clips, scores = await scores_of(TorchScriptBackend(TorchScriptConfig(served.repository)), served.name)
    theirs = served.foreign.logits(clips)

    assert spec.labels == LABELS
    assert np.ptp(theirs) > 10 * TOLERANCE
    np.testing.assert_allclose(scores.logits, theirs, atol=TOLERANCE, rtol=0)


async def test_triton_gives_the_logits_of_the_library(served: Served) -> None:
    spec, clips, scores = await scores_of(TritonBackend(TritonConfig(served.server.addresses.grpc)), served.name)

    np.testing.assert_allclose(scores.logits, served.foreign.logits(clips), atol=TOLERANCE, rtol=0)
    assert scores.temporal_attention.shape == (2, 0)
    assert scores.embedding.shape == (2, spec.embedding)
