"""How far coarser arithmetic moves the scores of a network, and how often it changes the first label.

Every clip goes through the network in float32, in bfloat16 and with its linear maps in int8, as the in-process engine
computes them, one after another in one process and at one thread. Times are processor seconds. The clips are those of
the generated camera motion. A CPU that lacks the instructions of an arithmetic scores in it as others do, and slowly:
the output says so, and its times say nothing of other CPUs.

    python -m benchmarks.precision FOLDER [--clips N] [--textures N] [--threads N]

`FOLDER` is that of a model in a repository, exported in float32. Agreement means something for a trained network only:
random weights give all clips nearly the same scores.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.inference.allocator import tune_malloc
from service.inference.arithmetic import CpuArithmetic, forward_in
from service.inference.cpu import Forward, optimize_for_cpu
from service.inference.registry import ModelFile, scan_repository
from service.inference.torchscript_archive import load_archive
from service.training.camera_motion.generator import CameraMotion, GeneratorConfig
from service.training.camera_motion.textures import texture_bank

TEXTURES = 64


@dataclass
class Compared:
    """The scores of one kind of arithmetic beside those of float32."""

    agreed: list[bool] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, reference: Tensor, logits: Tensor, seconds: float) -> None:
        """One clip: logits `(1, K)` of float32 and of this kind."""
        self.agreed.append(bool(reference.argmax() == logits.argmax()))
        self.drifts.append(float((logits - reference).abs().max()))
        self.seconds.append(seconds)


def compare(variants: dict[str, Forward], clips: Iterator[Tensor]) -> tuple[dict[str, Compared], list[float]]:
    """The variants, of which the first is the reference, on clips `(1, T, H, W, 3)`.

    Also returns the margin of the reference's first label before its second, for every clip.
    """
    compared = {name: Compared() for name in variants}
    margins = []
    for clip in clips:
        reference: Tensor | None = None
        for name, forward in variants.items():
            started = time.process_time()
            with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                logits = forward(clip)[0]
            seconds = time.process_time() - started
            reference = logits if reference is None else reference
            compared[name].add(reference, logits, seconds)
        assert reference is not None
        first, second = reference.topk(2)[0][0].tolist()
        margins.append(first - second)
    return compared, margins


def variants_of(path: Path) -> dict[str, Forward]:
    """The kinds of arithmetic for the `model.pt` of a model in float32."""
    wide_sums = CpuArithmetic.of_this_machine().int8
    return {
        "fp32": optimize_for_cpu(load_archive(path)),
        "bf16": forward_in("bf16", load_archive(path), wide_sums=wide_sums),
        "int8": forward_in("int8", load_archive(path), wide_sums=wide_sums),
    }


def lacking() -> list[str]:
    """The kinds of arithmetic that this CPU has no instructions for."""
    return [name for name, has in asdict(CpuArithmetic.of_this_machine()).items() if not has]


def model_file(folder: Path) -> ModelFile:
    """The newest version of the model in a folder of a repository; FileNotFoundError where none is served."""
    folder = folder.resolve()
    found = [file for file in scan_repository(folder.parent) if file.path.parents[1] == folder]
    if not found:
        raise FileNotFoundError(f"no model in {folder}")
    return found[-1]


def camera_motion(
    frames: int, height: int, width: int, count: int, seed: int = 7, textures: int = TEXTURES
) -> Iterator[Tensor]:
    """Clips `(1, T, H, W, 3)` of generated camera motion over textures that no training has seen."""
    side = max(height, width)
    bank = texture_bank([], tiles_each=0, procedural=textures, side=max(256, side), seed=seed)
    cameras = CameraMotion(bank, GeneratorConfig(frames=frames, side=side), seed)
    for _ in range(count):
        yield cameras.batch(cameras.draw_labels(1)).clips[:, :, :height, :width].contiguous()


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--textures", type=int, default=TEXTURES, help="that the clips are made of; few are made fast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/precision.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tune_malloc()
    file = model_file(arguments.model)
    if file.spec.precision != "fp32":
        parser.error(f"{arguments.model} is of precision {file.spec.precision}: give one exported in fp32")
    clips = camera_motion(*file.spec.clip_shape[:3], arguments.clips, textures=arguments.textures)
    compared, margins = compare(variants_of(file.path), clips)
    result = {
        "benchmark": "precision",
        "model": file.spec.name,
        "clips": len(margins),
        "median_margin": statistics.median(margins),
        "variants": {name: summary(of, compared["fp32"]) for name, of in compared.items()},
        "ratios": ratios(compared),
        "machine": {"processor": platform.machine(), "torch": torch.__version__, "emulated": lacking()},
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    report(result)


def summary(compared: Compared, reference: Compared) -> dict[str, float]:
    """Shares, drifts and milliseconds of one kind of arithmetic."""
    pairs = zip(compared.seconds, reference.seconds, strict=True)
    return {
        "agreement": statistics.mean(compared.agreed),
        "worst_drift": max(compared.drifts),
        "median_drift": statistics.median(compared.drifts),
        "cpu_ms": statistics.median(compared.seconds) * 1000,
        "time_ratio": statistics.median(a / b for a, b in pairs),
    }


def ratios(compared: dict[str, Compared]) -> dict[str, float]:
    """What the regression gate keeps: how much of the time and of the accuracy of float32 is left."""
    reference = compared["fp32"]
    figures = {name: summary(of, reference) for name, of in compared.items() if name != "fp32"}
    return {f"{name}: CPU of fp32 over CPU of {name}": 1 / row["time_ratio"] for name, row in figures.items()} | {
        f"{name}: share of first labels kept": row["agreement"] for name, row in figures.items()
    }


def report(result: dict[str, Any]) -> None:
    """A table."""
    margin = result["median_margin"]
    print(f"{result['model']}, {result['clips']} clips, first label ahead of the second by {margin:.2f} (median)")
    print(f"{'':16}{'same first label':>18}{'drift: median':>15}{'worst':>9}{'CPU ms':>10}{'of fp32':>9}")
    for name, row in result["variants"].items():
        print(
            f"{name:16}{row['agreement']:18.1%}{row['median_drift']:15.4f}{row['worst_drift']:9.4f}"
            f"{row['cpu_ms']:10.1f}{row['time_ratio']:9.2f}"
        )
    bf16, int8 = result["variants"]["bf16"], result["variants"]["int8"]
    print(
        f"int8: {1 / int8['time_ratio']:.2f} times as fast as fp32, median drift "
        f"{int8['median_drift'] / max(bf16['median_drift'], 1e-9):.2f} times that of bf16"
    )
    if emulated := result["machine"]["emulated"]:
        print(f"This CPU lacks {' and '.join(emulated)}: scores are right, times are not those of a CPU that has them.")


if __name__ == "__main__":
    main()
