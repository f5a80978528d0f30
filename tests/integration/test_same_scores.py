"""Three ways of computing the same scores: eager, TorchScript in process, and the real Triton.

Where two frames' deviations are nearly equal, rounding decides which of them pooling keeps; such clips are told apart
by the smallest gap at the selections, and held to the label and a wider bound.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.pooling_margins import SelectionGaps
from service.inference.backend import Backend, Clips, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from service.model.preprocess import Normalize
from service.model.presets import build_preset
from tests.fixtures.servers import MODEL_REPOSITORY

NAME, VERSION = "untrained_tiny", "1"
CLIPS = 64
TIE = 1e-6
NOTHING_ELSE = {
    "spatial_attention": np.zeros((CLIPS, 0, 0, 0), np.float32),
    "embedding": np.zeros((CLIPS, 0), np.float32),
}


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Moving noise, still noise and flat pictures: with flat ones, all frames deviate alike."""
    rng = np.random.default_rng(7)
    moving = rng.integers(0, 256, (CLIPS, 8, 64, 64, 3), dtype=np.uint8)
    moving[CLIPS // 2 :] = moving[CLIPS // 2 :, :1]
    moving[-4:] = 128
    return moving


class Eager:
    """The network itself, noting how close each selection was."""

    def __init__(self) -> None:
        self.network = build_preset(NAME)
        self.normalize = Normalize()
        self.gaps = SelectionGaps(self.network)

    def scores(self, clips: Clips) -> tuple[Scores, np.ndarray]:
        """Scores, and the smallest gap of each clip."""
        with torch.inference_mode():
            outputs = self.network(self.normalize(torch.from_numpy(clips)))
        given = {name: output.numpy() for name, output in outputs._asdict().items()}
        return Scores(**(given | NOTHING_ELSE)), self.gaps.take().numpy()


@pytest.fixture(scope="module")
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


async def scores_of(backend: Backend, clips: Clips) -> Scores:
    await backend.start()
    try:
        parts = [await backend.infer(NAME, VERSION, clips[i : i + 8]) for i in range(0, len(clips), 8)]
    finally:
        await backend.close()
    return Scores(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.temporal_attention for part in parts]),
        np.concatenate([part.layer_attention for part in parts]),
        np.concatenate([part.layer_retention for part in parts]),
        **NOTHING_ELSE,
    )


def assert_same(ours: Scores, theirs: Scores, gaps: np.ndarray, tolerance: float) -> None:
    clear = gaps > TIE
    print(f"\nclips whose selections are clear (gap > {TIE:g}): {clear.mean():.1%} of {len(clear)}")
    assert clear.mean() > 0.25
    for name in ("logits", "temporal_attention", "layer_attention", "layer_retention"):
        np.testing.assert_allclose(getattr(ours, name)[clear], getattr(theirs, name)[clear], atol=tolerance, rtol=0)
    np.testing.assert_array_equal(ours.logits.argmax(1), theirs.logits.argmax(1))
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-2, rtol=0)


@pytest.mark.usefixtures("threads")
async def test_triton_agrees_with_the_engine_in_process(clips: Clips, triton_server: LocalTriton) -> None:
    ours = await scores_of(TorchScriptBackend(TorchScriptConfig(MODEL_REPOSITORY, threads=1)), clips)
    theirs = await scores_of(TritonBackend(TritonConfig(triton_server.addresses.grpc)), clips)
    assert_same(ours, theirs, Eager().scores(clips)[1], tolerance=1e-4)


@pytest.mark.usefixtures("threads")
async def test_the_engine_in_process_agrees_with_the_eager_network(clips: Clips) -> None:
    served = await scores_of(TorchScriptBackend(TorchScriptConfig(MODEL_REPOSITORY, threads=1)), clips)
    eager, gaps = Eager().scores(clips)
    assert_same(eager, served, gaps, tolerance=1e-5)
