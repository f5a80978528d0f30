"""The benchmark of coarser arithmetic measures what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.precision import Compared, compare, model_file, ratios, summary
from service.contracts import Precision
from service.inference.arithmetic import in_bf16
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


def test_the_gate_gets_how_much_faster_each_arithmetic_is_and_what_it_keeps() -> None:
    reference, coarse = Compared(), Compared()
    for seconds in (2.0, 4.0):
        reference.add(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), seconds)
    coarse.add(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.5, 0.0]]), 1.0)
    coarse.add(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 1.0]]), 2.0)
    found = ratios({"fp32": reference, "bf16": coarse})
    assert found == {"bf16: CPU of fp32 over CPU of bf16": 2.0, "bf16: share of first labels kept": 0.5}


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        model_file(tmp_path / "elsewhere")
