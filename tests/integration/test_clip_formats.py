"""One network whose clips travel in RGB and in 4:2:0: the in-process engine and the real Triton."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.inference.backend import Backend, Scores
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from service.model.model_export import export_model
from service.model.preprocess import rgb_to_yuv420, yuv420_to_rgb
from service.model.presets import build_preset, find_preset


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    network, card = build_preset("untrained_tiny"), find_preset("untrained_tiny").card
    for name, clip_format in (("whole", "rgb"), ("half", "yuv420")):
        given = replace(card, clip_format=clip_format, max_batch_size=4)  # type: ignore[arg-type]
        export_model(network, folder, name=name, version=1, card=given)
    return folder


@pytest.fixture(scope="module")
def triton(triton_directory: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    with LocalTriton(triton_directory, repository, log=tmp_path_factory.mktemp("triton") / "log") as server:
        yield server


async def scores(backend: Backend, clips: dict[str, torch.Tensor]) -> dict[str, Scores]:
    await backend.start()
    try:
        assert {spec.name: spec.clip_format for spec in await backend.models()} == {"half": "yuv420", "whole": "rgb"}
        return {name: await backend.infer(name, "1", batch.numpy()) for name, batch in clips.items()}
    finally:
        await backend.close()


@pytest.mark.parametrize("shared_memory", [False, True], ids=["sent", "shared memory"])
async def test_the_engines_score_clips_in_420_alike_and_as_the_same_clips_in_rgb(
    repository: Path, triton: LocalTriton, shared_memory: bool
) -> None:
    half = rgb_to_yuv420(torch.randint(0, 256, (3, 8, 64, 64, 3), dtype=torch.uint8))
    clips = {"half": half, "whole": yuv420_to_rgb(half).contiguous()}
    ours = await scores(TorchScriptBackend(TorchScriptConfig(repository, threads=1)), clips)
    theirs = await scores(TritonBackend(TritonConfig(triton.addresses.grpc, shared_memory=shared_memory)), clips)
    for name in clips:
        np.testing.assert_allclose(ours[name].logits, theirs[name].logits, atol=1e-4)
        assert (ours[name].logits.argmax(1) == theirs[name].logits.argmax(1)).all()
    np.testing.assert_allclose(ours["half"].logits, ours["whole"].logits, atol=1e-6)
    np.testing.assert_allclose(theirs["half"].logits, theirs["whole"].logits, atol=1e-6)
