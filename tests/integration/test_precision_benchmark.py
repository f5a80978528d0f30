"""The benchmark of coarser arithmetic measures what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.int8 import Engine, in_int8, quantized
from benchmarks.precision import compare, in_bf16, model_file, summary
from service.contracts import Precision
from service.inference.cpu import Forward
from service.inference.torchscript_archive import load_archive
from service.model.presets import export_preset

NAME = "untrained_tiny"


def model_path(directory: Path, precision: Precision) -> Path:
    export_preset(NAME, directory / precision, precision)
    return directory / precision / NAME / "1" / "model.pt"


def some_clips(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_a_module_turned_to_bfloat16_is_the_one_that_is_exported_so(tmp_path: Path) -> None:
    turned = in_bf16(load_archive(model_path(tmp_path, "fp32")))
    exported = load_archive(model_path(tmp_path, "bf16"))
    with torch.inference_mode():
        for ours, theirs in zip(turned(some_clips(2)), exported(some_clips(2)), strict=True):
            assert torch.equal(ours, theirs)


def sums_int8_exactly() -> bool:
    """Whether the CPU adds products of int8 in 32 bits; without VNNI they saturate in 16."""
    cpu = Path("/proc/cpuinfo")
    return not cpu.exists() or "vnni" in cpu.read_text() or "asimddp" in cpu.read_text()


@pytest.mark.skipif(not sums_int8_exactly(), reason="this CPU saturates sums of int8")
@pytest.mark.parametrize("engine", ["onednn", "x86"])
def test_a_network_in_int8_scores_nearly_as_in_float32(engine: Engine, tmp_path: Path) -> None:
    path = model_path(tmp_path, "fp32")
    with torch.inference_mode():
        coarse, fine = in_int8(load_archive(path), engine)(some_clips(2))[0], load_archive(path)(some_clips(2))[0]
    spread = float(fine.std())
    assert 0 < float((coarse - fine).abs().max()) < 0.5 * spread


def test_int8_weights_are_within_half_a_step_of_their_channel() -> None:
    weight = torch.randn(6, 32) * torch.logspace(-3, 2, 6).unsqueeze(1)
    weight[2] = 0
    error = (quantized(weight).dequantize() - weight).abs().amax(dim=1)
    assert torch.all(error <= weight.abs().amax(dim=1) / 127 * 0.501)


def answering(rows: Iterator[list[float]]) -> Forward:
    return lambda _: (torch.tensor([next(rows)]),)


def test_agreement_and_drift_are_those_of_the_logits() -> None:
    logits = {"first": [[3.0, 1.0], [0.0, 2.0]], "second": [[1.5, 1.0], [4.0, 3.0]]}
    calls = {name: iter(rows) for name, rows in logits.items()}
    variants = {name: answering(rows) for name, rows in calls.items()}
    compared, margins = compare(variants, iter([torch.zeros(1), torch.zeros(1)]))
    figures = summary(compared["second"], compared["first"])
    assert margins == [2.0, 2.0]
    assert figures["agreement"] == 0.5
    assert figures["worst_drift"] == 4.0


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        model_file(tmp_path / "elsewhere")
