"""An exported network that returns what its head reads, beside the one that does not."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from service.contracts import ClipFormat, Precision
from service.inference.registry import scan_repository
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.model.model_export import export_model, scripted_archive, served_module
from service.model.preprocess import rgb_to_yuv420
from service.model.presets import export_preset
from tests.integration.model.test_model_export import card
from tests.unit.model.networks import VARIANTS, random_uint8, sharp, tiny_config

PRESET = "untrained_tiny"


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_other_outputs_are_those_of_the_network_without_it(variant: str) -> None:
    network = sharp(VARIANTS[variant])
    clips = random_uint8(network.config, 3)
    with torch.inference_mode():
        plain = served_module(network)(clips)
        *others, embedding = served_module(network, embedding=True)(clips)
    for ours, theirs in zip(others, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert (embedding.dtype, tuple(embedding.shape)) == (torch.float32, (3, network.config.dim))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("clip_format", ["rgb", "yuv420"])
def test_it_is_given_in_each_precision_and_format(precision: Precision, clip_format: ClipFormat) -> None:
    network = sharp(next(iter(VARIANTS.values())))
    clips = random_uint8(network.config, 2)
    given = rgb_to_yuv420(clips) if clip_format == "yuv420" else clips
    with torch.inference_mode():
        plain = served_module(network, precision, clip_format)(given)
        logits, *_, embedding = served_module(network, precision, clip_format, embedding=True)(given)
    torch.testing.assert_close(logits, plain[0], atol=1e-2 if precision == "bf16" else 1e-6, rtol=0)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
def test_networks_with_heads_of_two_sizes_are_compiled_in_one_process() -> None:
    for classes in (4, 7):
        network = sharp(tiny_config(classes=classes))
        clips = random_uint8(network.config, 2)
        served = served_module(network, embedding=True)
        compiled = torch.jit.load(BytesIO(scripted_archive(served)))
        with torch.inference_mode():
            torch.testing.assert_close(compiled(clips)[0], served(clips)[0])


def test_logits_are_what_the_head_makes_of_the_direction_and_length_of_it() -> None:
    network = sharp(next(iter(VARIANTS.values())))
    clips = random_uint8(network.config, 2)
    with torch.inference_mode():
        logits, *_, embedding = served_module(network, embedding=True)(clips)
        head = network.fc
        along = embedding @ head.weight.T  # logits less the bias, but for the length of each feature
        for row in range(2):
            length = (logits[row] - head.bias) @ along[row] / (along[row] @ along[row])
            torch.testing.assert_close(length * along[row] + head.bias, logits[row], atol=1e-4, rtol=0)
            assert length > 0


async def test_the_engine_serves_it_and_its_configuration_says_so(tmp_path: Path) -> None:
    export_preset(PRESET, tmp_path, embedding=True)
    [file] = scan_repository(tmp_path)
    assert file.spec.embedding > 0
    assert list(file.spec.outputs)[-1] == "embedding"
    backend = TorchScriptBackend(TorchScriptConfig(tmp_path))
    await backend.start()
    try:
        clips = np.random.default_rng(0).integers(0, 256, (2, *file.spec.clip_shape), dtype=np.uint8)
        scores = await backend.infer(PRESET, "1", clips)
    finally:
        await backend.close()
    assert scores.embedding.shape == (2, file.spec.embedding)
    np.testing.assert_allclose(np.linalg.norm(scores.embedding, axis=1), 1, atol=1e-5)


def test_a_network_without_it_is_exported_as_before(tmp_path: Path) -> None:
    network = sharp(next(iter(VARIANTS.values())))
    export_model(network, tmp_path, name="plain", version=1, card=card())
    assert "embedding" not in (tmp_path / "plain" / "config.pbtxt").read_text()
    with pytest.raises(ValueError, match="needs another configuration"):
        export_model(network, tmp_path, name="plain", version=2, card=card(embedding=True))
