"""A network of full size in the real Triton: batched as it arrives, and scored as by the network itself."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tritonclient.grpc.aio import InferenceServerClient

from benchmarks.pooling_margins import clearest_clips
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from service.model.model_export import export_model
from service.model.preprocess import Normalize
from service.model.presets import build_preset, find_preset

NAME = "cvidtr_s_8x8"
CLIPS = 3
CANDIDATES = 8


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_network_of_full_size_is_batched_and_scores_as_eager(triton_directory: Path, tmp_path: Path) -> None:
    card = replace(find_preset(NAME).card, max_batch_size=CLIPS)
    network = build_preset(NAME)
    export_model(network, tmp_path / "models", name=NAME, version=1, card=card)
    candidates = np.random.default_rng(0).integers(0, 256, (CANDIDATES, 8, 224, 224, 3), dtype=np.uint8)
    clips = clearest_clips(network, torch.from_numpy(candidates), CLIPS)

    with LocalTriton(triton_directory, tmp_path / "models", log=tmp_path / "triton.log") as server:
        backend = TritonBackend(TritonConfig(server.addresses.grpc))
        await backend.start()
        try:
            answers = await asyncio.gather(*(backend.infer(NAME, "1", clip.numpy()) for clip in clips.split(1)))
        finally:
            await backend.close()
        async with InferenceServerClient(server.addresses.grpc) as client:
            statistics = (await client.get_inference_statistics(NAME)).model_stats[0]

    assert statistics.inference_count > statistics.execution_count
    with torch.inference_mode():
        eager = network(Normalize()(clips))
    for i, answer in enumerate(answers):
        for name in ("logits", "temporal_attention", "layer_attention", "layer_retention"):
            np.testing.assert_allclose(getattr(answer, name)[0], getattr(eager, name)[i].numpy(), atol=1e-4)
