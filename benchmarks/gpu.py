"""What a GPU does with the exported files: one script of at most eight minutes, whose results are written part by part.

- parity: logits of every precision and clip format on the device against float32 on the CPU.
- engine: clips/s over batch sizes and precisions, the copies to the device and back included; float32 also in TF32.
- service: clips/s that were decoded before through Redis, a worker and the device, with 1 and with 4 batches in flight,
  in RGB and in 4:2:0.
- decoding: clips/s by plan on the CPU, at one core, beside torchcodec (NVDEC on a GPU), where that is installed.

A part that would begin after the budget is left out, and the output says so. `--device cpu --small` runs the same code
with a tiny network, to check the script itself.

    python -m benchmarks.gpu [--device cuda] [--small] [--budget-s 480] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import uvloop

from benchmarks.clip_format import clip_of
from benchmarks.common import record
from benchmarks.common.enqueue import broker
from benchmarks.common.on_device import command, forward, on_device
from benchmarks.decode_videos import encode
from service.contracts import ClipFormat, JobRequest, Precision
from service.evaluation.clip_format import moving_textures
from service.inference.registry import ModelFile, scan_repository
from service.model.model_export import export_model
from service.model.preprocess import rgb_to_yuv420, yuv420_to_rgb
from service.model.presets import build_preset, find_preset
from service.model.triton_options import GPU_BATCH, ON_GPU
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import VideoLimits

PARITY_CLIPS = 4
VIDEO = "10 s 1080p, groups of 250"
SMALL_VIDEO = "10 s 340p, groups of 12"
# Logits of half precision move by about a hundredth of their span; a wrong kernel moves them by all of it.
LARGEST_DRIFT = 0.1


@dataclass(frozen=True)
class Bench:
    """What is measured, on what."""

    device: str
    preset: str
    batches: tuple[int, ...]
    batch: int
    """clips of a batch of the service"""
    seconds: float
    """of one measurement"""
    scratch: Path

    def repository(self, precision: Precision, clip_format: ClipFormat = "rgb") -> Path:
        """A repository with the network alone, exported as asked; written once."""
        folder = self.scratch / f"{precision}-{clip_format}"
        if not folder.exists():
            card = find_preset(self.preset).card
            card = replace(card, precision=precision, clip_format=clip_format, max_batch_size=self.batch)
            network = build_preset(self.preset)
            export_model(network, folder, name=self.preset, version=1, card=card, serving=ON_GPU)
        return folder

    def file(self, precision: Precision, clip_format: ClipFormat = "rgb") -> ModelFile:
        """The file in that repository."""
        [file] = scan_repository(self.repository(precision, clip_format))
        return file

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize()


@contextlib.contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Products of float32 in TF32 or in all bits, as `TORCH_ALLOW_TF32_CUBLAS_OVERRIDE` says it to Triton."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _ways() -> Iterator[tuple[str, Precision, bool]]:
    yield from ((precision, precision, False) for precision in get_args(Precision))
    yield "fp32 in tf32", "fp32", True


def parity(bench: Bench) -> dict[str, Any]:
    """Distance of the logits from float32 on the CPU, as a share of their span, and labels that stay."""
    spec = bench.file("fp32").spec
    rgb = moving_textures(PARITY_CLIPS, spec.frames, spec.height, spec.width)
    clips: dict[ClipFormat, torch.Tensor] = {"rgb": rgb.contiguous(), "yuv420": rgb_to_yuv420(rgb)}
    seen = {"rgb": clips["rgb"], "yuv420": yuv420_to_rgb(clips["yuv420"]).contiguous()}
    reference = on_device(bench.file("fp32"), "cpu")
    found = {}
    for clip_format in get_args(ClipFormat):
        wanted = forward(reference, seen[clip_format], "cpu")[0]
        span = float((wanted.amax(1) - wanted.amin(1)).max())
        for name, precision, in_tf32 in _ways():
            module = on_device(bench.file(precision, clip_format), bench.device)
            with tf32(in_tf32):
                logits = forward(module, clips[clip_format], bench.device)[0]
            found[f"{name}, {clip_format}"] = {
                "largest_drift": float((logits - wanted).abs().max()) / span,
                "same_label": int((logits.argmax(1) == wanted.argmax(1)).sum()),
                "clips": PARITY_CLIPS,
            }
    return found


def engine(bench: Bench) -> dict[str, Any]:
    """Clips/s of batches one after the other, with their copies, by precision and batch size."""
    found: dict[str, Any] = {}
    for name, precision, in_tf32 in _ways():
        file = bench.file(precision)
        module = on_device(file, bench.device)
        with tf32(in_tf32):
            for size in bench.batches:
                clips = torch.randint(0, 256, (size, *file.spec.clip_shape), dtype=torch.uint8)
                rate = _per_s(partial(forward, module, clips, bench.device), bench)
                found[f"{name}, batch {size}"] = {"clips_per_s": size * rate}
    if bench.device != "cpu":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    return found


def _per_s(run: Callable[[], object], bench: Bench) -> float:
    run()
    bench.synchronize()
    done, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < bench.seconds or not done:
        run()
        bench.synchronize()
        done += 1
    return done / taken if done > 1 else done / (time.perf_counter() - began)


def service(bench: Bench) -> dict[str, Any]:
    """Clips/s from the queue to the results."""

    async def one(clip_format: ClipFormat, in_flight: int) -> dict[str, float]:
        repository = bench.repository("bf16", clip_format)
        scratch = bench.scratch / f"service-{clip_format}-{in_flight}"
        worker = command(repository, bench.device, ON_GPU.instances)
        async with broker(scratch, worker, worker_batches_in_flight=in_flight, worker_batch_delay_ms=0) as queue:
            clips = queue.clips(16)
            waiting = 2 * (in_flight + 1) * queue.spec.max_batch_size
            per_s = await queue.queue.round(queue.spec, clips, waiting, waiting)
            count = max(waiting, int(bench.seconds * 3 * per_s))
            per_s = await queue.queue.round(queue.spec, clips, count, waiting)
            batches = await queue.metric("vidtr_batch_clips_count")
            return {"clips_per_s": per_s, "mean_batch": await queue.metric("vidtr_batch_clips_sum") / batches}

    found = {}
    for clip_format in get_args(ClipFormat):
        for in_flight in (1, 4):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found[f"{clip_format}, {in_flight} in flight"] = runner.run(one(clip_format, in_flight))
    return found


def decoding(bench: Bench, kind: str) -> dict[str, Any]:
    """Clips/s of one window of a video: by plan at one core, and by torchcodec on the device."""
    path, out = bench.scratch / "video.mp4", bench.scratch / "clips"
    encode(path, kind, b_frames=True)
    limits, spec = Settings(_env_file=None).subset(VideoLimits), clip_of("rgb")
    request = JobRequest(windows=1)
    answer = decode_file(path, out, spec, request, limits)
    on_cpu = replace(bench, device="cpu")
    found: dict[str, Any] = {
        "video": kind,
        "by plan on one core": {
            "clips_per_s": _per_s(lambda: decode_file(path, out, spec, request, limits), on_cpu),
        },
    }
    if importlib.util.find_spec("torchcodec") is None:
        return {**found, "torchcodec": "not installed"}
    from torchcodec.decoders import VideoDecoder

    times = list(answer.windows[0].times_s)

    def window() -> object:
        return VideoDecoder(str(path), device=bench.device).get_frames_played_at(seconds=times).data

    return {**found, f"torchcodec on {bench.device}": {"clips_per_s": _per_s(window, bench)}}


def run(bench: Bench, budget_s: float, kept: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All parts, as far as the budget reaches; `kept` gets what there is after each part."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "parity": lambda: parity(bench),
        "engine": lambda: engine(bench),
        "service": lambda: service(bench),
        "decoding": lambda: decoding(bench, SMALL_VIDEO if bench.device == "cpu" else VIDEO),
    }
    figures: dict[str, Any] = {"device": _device(bench.device), "network": bench.preset}
    began = time.monotonic()
    for name, part in parts.items():
        if time.monotonic() - began > budget_s:
            figures[name] = "left out: the budget was used up"
        else:
            started = time.monotonic()
            figures[name] = part()
            figures[f"{name}_s"] = round(time.monotonic() - started, 1)
        kept(figures)
    return figures


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


def broken(figures: dict[str, Any]) -> list[str]:
    """The ways whose logits are too far from float32 on the CPU."""
    found = figures["parity"]
    if not isinstance(found, dict):
        return []
    return [name for name, one in found.items() if one["largest_drift"] > LARGEST_DRIFT]


def main() -> None:
    """Measure, print, write JSON; exit status 1 where a precision does not compute what float32 does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny network and short measurements")
    parser.add_argument("--preset", default="cvidtr_s_8x8")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--budget-s", type=float, default=480.0, help="after which no part begins")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --small checks the script itself")
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    began = record.machine()
    record.RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-", dir=record.RESULTS) as name:
        bench = Bench(
            device=arguments.device,
            preset="untrained_tiny" if arguments.small else arguments.preset,
            batches=(1, 4) if arguments.small else (1, 8, GPU_BATCH, 2 * GPU_BATCH),
            batch=4 if arguments.small else GPU_BATCH,
            seconds=0.05 if arguments.small else arguments.seconds,
            scratch=Path(name),
        )

        def keep(figures: dict[str, Any]) -> None:
            record.write("gpu", figures, began=began, ratios={}, path=arguments.json)

        figures = run(bench, arguments.budget_s, keep)
    for part, found in figures.items():
        if isinstance(found, dict):
            for name, value in found.items():
                print(f"{part:10} {name:32} {value}")
        else:
            print(f"{part:10} {found}")
    if wrong := broken(figures):
        raise SystemExit(f"too far from float32 on the CPU: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
