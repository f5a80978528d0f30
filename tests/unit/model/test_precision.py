"""Lower precision where it is cheap, float32 where a choice or a sum depends on it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.contracts import Precision
from service.model.layers import LayerNorm32, PatchEmbedding, softmax32
from service.model.model_export import ExportModule
from service.model.pooling import TopKStd
from service.model.preprocess import Normalize, fold_normalization
from service.model.presets import export_preset
from service.model_config import parameters_of, read_config
from tests.unit.model.networks import VARIANTS, random_uint8, sharp

HALVES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def test_a_folded_embedding_takes_the_pixels_as_they_are() -> None:
    torch.manual_seed(0)
    clips = torch.randint(0, 256, (2, 3, 16, 24, 3), dtype=torch.uint8)
    plain, folded = PatchEmbedding(8, 32), PatchEmbedding(8, 32)
    nn.init.normal_(plain.weight, std=0.05)
    nn.init.normal_(plain.bias)
    folded.load_state_dict(plain.state_dict())
    fold_normalization(folded)
    torch.testing.assert_close(folded(clips.permute(0, 4, 1, 2, 3)), plain(Normalize()(clips)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", HALVES)
def test_only_norms_stay_in_float32(precision: Precision) -> None:
    served = ExportModule(sharp(VARIANTS["released"]), precision)
    of_norms = {id(p) for m in served.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    assert of_norms
    for parameter in served.parameters():
        assert parameter.dtype == (torch.float32 if id(parameter) in of_norms else HALVES[precision])


@pytest.mark.parametrize("dtype", HALVES.values())
def test_a_norm_computes_in_float32_and_returns_what_it_got(dtype: torch.dtype) -> None:
    norm, x = LayerNorm32(64), torch.randn(5, 64, dtype=dtype) * 100
    result = norm(x)
    assert result.dtype == dtype
    assert torch.equal(result, norm(x.float()).to(dtype))


@pytest.mark.parametrize("dtype", HALVES.values())
def test_softmax_of_half_precision_scores_is_float32(dtype: torch.dtype) -> None:
    scores = torch.randn(4, 9, dtype=dtype)
    weights = softmax32(scores, 0.125)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("variant", ["frame", "head and location", "released"])
def test_pooling_chooses_by_maps_in_float32(variant: str, precision: Precision) -> None:
    served = ExportModule(sharp(VARIANTS[variant]), precision).eval()
    seen: list[torch.dtype] = []

    def note(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].dtype)

    for module in served.modules():
        if isinstance(module, TopKStd):
            module.register_forward_pre_hook(note)
    with torch.inference_mode():
        served(random_uint8(VARIANTS[variant], 2))
    assert seen == [torch.float32] * 2


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_float32_and_close_to_those_of_float32(variant: str, precision: Precision) -> None:
    network, clips = sharp(VARIANTS[variant], sharpness=1.0), random_uint8(VARIANTS[variant], 3)
    with torch.inference_mode():
        full, half = ExportModule(network).eval()(clips), ExportModule(network, precision).eval()(clips)
    assert {output.dtype for output in half} == {torch.float32}
    torch.testing.assert_close(half[0], full[0], atol=0.1 * float(full[0].abs().max()), rtol=0)
    torch.testing.assert_close(half[1].sum(dim=-1), torch.ones(3), atol=1e-5, rtol=0)


def test_the_precision_stands_in_the_configuration(tmp_path: Path) -> None:
    folder = export_preset("untrained_tiny", tmp_path, "bf16")
    assert parameters_of(read_config(folder / "config.pbtxt"))["precision"] == "bf16"
    assert (folder / "1" / "model.pt").stat().st_size < 700_000
