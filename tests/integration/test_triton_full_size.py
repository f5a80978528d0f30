"""A network of full size in the real Triton: batched as it arrives, and scored as by the network itself."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tritonclient.grpc.aio import InferenceServerClient

from service.inference.triton import TritonBackend, TritonConfig
from service.local.triton import LocalTriton
from service.model.build import Network
from service.model.export import export_model
from service.model.parts import Scores
from service.model.preprocess import Normalise
from service.model.presets import build_preset, find_preset
from tests.fixtures.selection_gaps import SelectionGaps

NAME = "cvidtr_s_8x8"
CLIPS = 3
CANDIDATES = 24


def scored_alone(network: Network, gaps: SelectionGaps, clip: np.ndarray) -> tuple[float, Scores]:
    """The smallest gap at a selection of one clip `(T, H, W, 3)`, and its scores."""
    with torch.inference_mode():
        scores = network(Normalise()(torch.from_numpy(clip[None])))
    return float(gaps.take()), scores


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_network_of_full_size_is_batched_and_scores_as_eager(triton_directory: Path, tmp_path: Path) -> None:
    card = replace(find_preset(NAME).card, max_batch_size=CLIPS)
    network = build_preset(NAME)
    # Fresh weights attend so evenly that rounding decides which frames pooling keeps.
    with torch.no_grad():
        for layer in network.encoder.layers:
            layer.self_attn.in_proj_weight[: 2 * network.config.dim] *= 4
    export_model(network, tmp_path / "models", name=NAME, version=1, card=card)
    candidates = np.random.default_rng(0).integers(0, 256, (CANDIDATES, 8, 224, 224, 3), dtype=np.uint8)
    gaps = SelectionGaps(network)
    scored = [(*scored_alone(network, gaps, clip), clip) for clip in candidates]
    scored = sorted(scored, key=lambda item: item[0], reverse=True)[:CLIPS]

    with LocalTriton(triton_directory, tmp_path / "models", log=tmp_path / "triton.log") as server:
        backend = TritonBackend(TritonConfig(server.addresses.grpc))
        await backend.start()
        try:
            answers = await asyncio.gather(*(backend.infer(NAME, "1", clip[None]) for _, _, clip in scored))
        finally:
            await backend.close()
        async with InferenceServerClient(server.addresses.grpc) as client:
            statistics = (await client.get_inference_statistics(NAME)).model_stats[0]

    assert statistics.inference_count > statistics.execution_count
    print(f"smallest gap at a selection: {scored[-1][0]:.1e}")
    for (_, eager, _), answer in zip(scored, answers, strict=True):
        for name in ("logits", "temporal_attention", "layer_attention", "layer_retention"):
            np.testing.assert_allclose(getattr(answer, name), getattr(eager, name).numpy(), atol=1e-4)
