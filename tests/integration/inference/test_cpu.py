"""What is rewritten for the CPU computes what was loaded."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.inference.cpu import optimize_for_cpu
from service.inference.torchscript_archive import load_archive
from service.model.card import ModelCard
from service.model.model_export import export_model
from tests.fixtures.counting_module import Counter
from tests.unit.model.networks import VARIANTS, random_uint8, sharp

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

HALF = torch.bfloat16
# Without AVX-512 sums are taken in another order, and networks whose attention is sharp multiply what comes of it.
TOLERANCE = 1e-5 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 1e-4


def exported(variant: str, directory: Path, precision: Any = "fp32") -> torch.jit.ScriptModule:
    card = ModelCard(
        labels=("a", "b", "c", "d"),
        trained=False,
        description="",
        frame_step=1,
        reference_fps=25.0,
        resize_short_side=16,
        precision=precision,
    )
    folder = export_model(sharp(VARIANTS[variant]), directory, name="tiny", version=1, card=card)
    return load_archive(folder / "1" / "model.pt")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_scores_as_it_was_loaded(variant: str, tmp_path: Path) -> None:
    module = exported(variant, tmp_path)
    forward = optimize_for_cpu(module)
    assert forward is not module
    with torch.inference_mode():
        for batch in (1, 3):
            clips = random_uint8(VARIANTS[variant], batch, seed=batch)
            for ours, theirs in zip(forward(clips), module(clips), strict=True):
                torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", ["vidtr", "frame", "vanilla", "hybrid"])
def test_networks_of_half_precision_score_as_they_were_loaded(variant: str, tmp_path: Path) -> None:
    module = exported(variant, tmp_path, "bf16")
    clips = random_uint8(VARIANTS[variant], 2)
    with torch.inference_mode():
        ours, theirs = optimize_for_cpu(module)(clips)[0], module(clips)[0]
    # Both round at each operation, in another order.
    torch.testing.assert_close(ours, theirs, atol=0.1 * float(theirs.abs().max()), rtol=0)


def test_memory_of_the_loaded_weights_is_not_kept_beside_the_packed_ones(tmp_path: Path) -> None:
    module = exported("vidtr", tmp_path)
    names = [name for name, _ in module.named_parameters()]
    forward: Any = optimize_for_cpu(module)
    packed = next(cell.cell_contents for cell in forward.__closure__ if isinstance(cell.cell_contents, list))
    assert all(weight.is_mkldnn for weight in packed)
    assert len(packed) == sum("in_proj_weight" in name for name in names) * 3 + sum(
        name.endswith(("out_proj.weight", "linear1.weight", "linear2.weight", "conv_stem.weight", "fc.weight"))
        for name in names
    )


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    script: torch.jit.ScriptModule = torch.jit.script(module.eval())
    return script


def agrees(module: nn.Module, x: Tensor) -> bool:
    with torch.inference_mode():
        ours, theirs = optimize_for_cpu(scripted(module))(x), module(x)
    return ours.dtype == theirs.dtype and torch.allclose(ours.float(), theirs.float(), atol=1e-2)


class SoftmaxAlong(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(dim=self.dim)


@pytest.mark.parametrize("dim", [-1, 1, 0])
def test_softmax_along_any_dimension_is_the_same(dim: int) -> None:
    assert agrees(SoftmaxAlong(dim), torch.randn(3, 4, 5))


class CausalAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, dtype=HALF)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return nn.functional.scaled_dot_product_attention(y, y, y, is_causal=True)


def test_attention_with_a_mask_is_left_alone() -> None:
    assert agrees(CausalAttention(), torch.randn(2, 3, 5, 8, dtype=HALF))


class NormToFloat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.to(torch.float32)).to(torch.float64)
        return normed


def test_a_norm_whose_result_changes_type_is_left_alone() -> None:
    assert agrees(NormToFloat(), torch.randn(3, 8, dtype=HALF))


class RectifiedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y + torch.relu(y)


def test_a_product_that_is_used_beside_its_relu_keeps_its_sign() -> None:
    assert agrees(RectifiedTwice(), torch.randn(3, 8))


def test_a_module_with_state_of_its_own_runs_as_it_was_loaded() -> None:
    module = scripted(Counter())
    assert optimize_for_cpu(module) is module


class OfDoubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y


def test_weights_that_cannot_be_packed_leave_the_module_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    module = scripted(OfDoubles())
    with caplog.at_level(logging.WARNING):
        forward = optimize_for_cpu(module)
    x = torch.randn(2, 8, dtype=torch.float64)
    assert torch.equal(forward(x), module(x))
    assert "could not be rewritten" in caplog.text
