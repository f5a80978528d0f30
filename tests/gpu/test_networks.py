"""What needs a GPU: the exported files of every network on one, in every precision. Run by `make test-gpu`."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.model.model_export import export_model
from service.model.presets import build_preset, find_preset
from tests.integration.model.test_model_export import card
from tests.unit.model.networks import VARIANTS, random_uint8, sharp

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated"),
]

PRECISIONS = ("fp32", "bf16", "fp16")


@pytest.fixture(autouse=True)
def exact_products() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_scores_on_a_gpu_as_on_a_cpu(variant: str, tmp_path: Path) -> None:
    folder = export_model(sharp(VARIANTS[variant]), tmp_path, name="tiny", version=1, card=card())
    clips = random_uint8(VARIANTS[variant], 3)
    with torch.inference_mode():
        here = torch.jit.load(folder / "1" / "model.pt")(clips)
        there = torch.jit.load(folder / "1" / "model.pt", map_location="cuda")(clips.cuda())
    for ours, theirs in zip(there, here, strict=True):
        assert ours.is_cuda
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-4, rtol=0)


class OnGpu:
    """`cvidtr_s_8x8` in one precision, and what it takes."""

    def __init__(self, precision: Any, directory: Path) -> None:
        name = "cvidtr_s_8x8"
        wanted = replace(find_preset(name).card, precision=precision)
        folder = export_model(build_preset(name), directory, name=name, version=1, card=wanted)
        self.module = torch.jit.load(folder / "1" / "model.pt", map_location="cuda")
        self.clips = torch.randint(0, 256, (8, 8, 224, 224, 3), dtype=torch.uint8, device="cuda")

    def seconds(self) -> float:
        return measured(lambda: self.module(self.clips))

    def peak_bytes(self) -> int:
        with torch.inference_mode():
            self.module(self.clips)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.inference_mode():
            self.module(self.clips)
        return torch.cuda.max_memory_allocated() - before


def measured(run: Callable[[], Tensor]) -> float:
    with torch.inference_mode():
        for _ in range(5):
            run()
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            run()
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / 10


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnGpu]:
    return {precision: OnGpu(precision, tmp_path_factory.mktemp(precision)) for precision in PRECISIONS}


def test_half_precision_gives_the_labels_of_full_precision(served: dict[str, OnGpu]) -> None:
    with torch.inference_mode():
        labels = {precision: model.module(model.clips[:1])[0].argmax() for precision, model in served.items()}
    assert labels["bf16"] == labels["fp16"] == labels["fp32"]


def test_half_precision_takes_less_memory(served: dict[str, OnGpu]) -> None:
    full, half = served["fp32"].peak_bytes(), served["bf16"].peak_bytes()
    print(f"peak memory of 8 clips: {half / full:.2f}x in bf16")
    assert half < 0.75 * full


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_measured_against_full(served: dict[str, OnGpu], precision: str) -> None:
    ratio = served[precision].seconds() / served["fp32"].seconds()
    print(f"time of 8 clips: {ratio:.2f}x in {precision}")
