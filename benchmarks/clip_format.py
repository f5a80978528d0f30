"""What clips in 4:2:0 save on the way from the decoder to the network, and how far they move the bundled model.

Both formats go the same way in turns, in one run:

- decoding: CPU of a clip of 8 frames of 224 x 224 pixels, in one process.
- queue: CPU of a clip in Redis, in the worker and on the API's side, with an engine that takes no time.
- engine: CPU of the conversion to RGB inside the exported module, at one thread.
- labels: the model of `--model` on the windows of videos, decoded in each format. `--videos` names a folder of them.

    python -m benchmarks.clip_format [--parts decoding,queue,engine,labels] [--rounds N] [--seconds S] [--videos FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import uvloop

from benchmarks.common import record
from benchmarks.common.cpu import Meter
from benchmarks.common.enqueue import broker
from benchmarks.common.fixed import command, fixed_spec
from benchmarks.decode_videos import KINDS, encode
from service.contracts import ClipFormat, ClipSpec, JobRequest
from service.errors import VidtrError
from service.inference.registry import scan_repository
from service.inference.torchscript_archive import load_archive
from service.model.preprocess import as_rgb, rgb_to_yuv420, yuv420_to_rgb
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import VideoLimits

FORMATS: tuple[ClipFormat, ...] = get_args(ClipFormat)
FRAMES, PIXELS, BATCH = 8, 224, 8
IN_FLIGHT = 4 * BATCH
RING = 64
VIDEOS = ("10 s 340p, groups of 12", "10 s 1080p, groups of 250")


def clip_of(clip_format: ClipFormat) -> ClipSpec:
    """Clips as C-VidTr-S takes them."""
    return fixed_spec(BATCH, FRAMES, PIXELS).clip.model_copy(
        update={"frame_step": 8, "reference_fps": 30.0, "resize_short_side": 256, "clip_format": clip_format}
    )


def decoding(scratch: Path, rounds: int, times: int) -> dict[str, Any]:
    """CPU milliseconds of a clip, by video and format."""
    limits = Settings(_env_file=None).subset(VideoLimits)
    found: dict[str, Any] = {}
    for kind in VIDEOS:
        path, out = scratch / "video.mp4", scratch / "clips"
        encode(path, kind, b_frames=True)

        def cpu_ms(clip_format: ClipFormat, path: Path = path, out: Path = out) -> float:
            began = time.process_time()
            for _ in range(times):
                decode_file(path, out, clip_of(clip_format), JobRequest(windows=1), limits)
            return 1000 * (time.process_time() - began) / times

        series: dict[str, list[float]] = {name: [] for name in FORMATS}
        for number in range(rounds + 1):
            for name in FORMATS[:: 1 if number % 2 else -1]:
                series[name].append(cpu_ms(name))
        series = {name: values[1:] for name, values in series.items()}  # the first is a warm-up
        found[kind] = {
            "cpu_ms": {name: statistics.median(values) for name, values in series.items()},
            "ratio": record.median_of_ratios(series["yuv420"], series["rgb"]),
        }
    return found


async def queue(scratch: Path, rounds: int, seconds: float, persist: bool) -> dict[str, Any]:
    """CPU milliseconds of a clip through the queue, by format and part."""
    async with contextlib.AsyncExitStack() as stack:
        ways = {}
        for name in FORMATS:
            spec = fixed_spec(BATCH, FRAMES, PIXELS, clip_format=name)
            begun = await stack.enter_async_context(broker(scratch / name, command(0.0, spec), persist=persist))
            ways[name] = (begun, begun.clips(RING), Meter(begun.parts))
        counts = {}
        for name, (begun, clips, _) in ways.items():
            per_s = await begun.queue.round(begun.spec, clips, 2 * RING, IN_FLIGHT)
            counts[name] = max(8 * RING, int(seconds * per_s))
        count = min(counts.values())

        async def metered(name: ClipFormat) -> dict[str, float]:
            begun, clips, meter = ways[name]
            meter.mark()
            await begun.queue.round(begun.spec, clips, count, IN_FLIGHT)
            meter.mark()
            return {part: 1000 * used / count for part, used in meter.usage().cpu_s.items()}

        series = await record.interleaved(rounds, {name: partial(metered, name) for name in FORMATS})
        sizes = {name: begun.spec.clip_bytes for name, (begun, *_) in ways.items()}
    whole = {name: [sum(one.values()) for one in found] for name, found in series.items()}
    parts = series["rgb"][0]
    return {
        "clip_bytes": sizes,
        "clips_per_round": count,
        "cpu_ms": {
            name: {part: round(statistics.median(one[part] for one in found), 3) for part in parts}
            for name, found in series.items()
        },
        "ratio": record.median_of_ratios(whole["yuv420"], whole["rgb"]),
        "ratio of redis": record.median_of_ratios(*([one["redis"] for one in series[name]] for name in FORMATS[::-1])),
    }


def engine(rounds: int) -> dict[str, float]:
    """CPU milliseconds of the conversion of a clip at one thread."""
    clips = torch.randint(0, 256, (BATCH, *clip_of("yuv420").clip_shape), dtype=torch.uint8)
    taken = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            began = time.process_time()
            yuv420_to_rgb(clips)
            taken.append(1000 * (time.process_time() - began) / BATCH)
    return {"cpu_ms": statistics.median(taken[1:])}


def labels(model: Path, videos: list[Path], scratch: Path) -> dict[str, Any]:
    """Logits of a model that takes RGB, of every window of the videos in both formats."""
    file = max(
        (file for file in scan_repository(model.parent) if file.spec.name == model.name),
        key=lambda file: int(file.spec.version),
    )
    module = load_archive(file.path)
    limits, rgb = Settings(_env_file=None).subset(VideoLimits), file.spec.clip
    short_side = rgb.resize_short_side + rgb.resize_short_side % 2
    specs = {"rgb": rgb, "yuv420": rgb.model_copy(update={"clip_format": "yuv420", "resize_short_side": short_side})}
    if specs["yuv420"].odd_sizes:
        raise ValueError(f"{model.name} cannot take 4:2:0: {specs['yuv420'].odd_sizes}")
    found: dict[str, list[torch.Tensor]] = {"rgb": [], "yuv420": [], "colors alone": []}
    with torch.inference_mode():
        for video in videos:
            for name, clips in _decoded(video, specs, scratch, limits):
                found[name].append(module(as_rgb(clips).contiguous())[0])
                if name == "rgb":
                    found["colors alone"].append(module(yuv420_to_rgb(rgb_to_yuv420(clips)).contiguous())[0])
    logits = {name: torch.cat(parts) for name, parts in found.items()}
    kept = logits["rgb"]
    return {
        "model": model.name,
        "videos": len(videos),
        "windows": len(kept),
        "logits_span": float((kept.amax(1) - kept.amin(1)).median()),
        **{
            name: {
                "same_label": float((kept.argmax(1) == other.argmax(1)).double().mean()),
                "mean_difference": float((kept - other).abs().mean()),
                "largest_difference": float((kept - other).abs().max()),
            }
            for name, other in logits.items()
            if name != "rgb"
        },
    }


def _decoded(
    video: Path, specs: dict[str, ClipSpec], scratch: Path, limits: VideoLimits
) -> Iterator[tuple[str, torch.Tensor]]:
    clips = {}
    for name, spec in specs.items():
        out = scratch / "clips"
        try:
            decode_file(video, out, spec, JobRequest(windows="auto"), limits)
        except VidtrError:
            return
        clips[name] = torch.from_numpy(np.fromfile(out, np.uint8).reshape(-1, *spec.clip_shape))
    yield from clips.items()


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """The parts that were asked for: figures and ratios."""
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    parts = arguments.parts.split(",")
    record.RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clip-format-", dir=record.RESULTS) as name:
        scratch = Path(name)
        if "decoding" in parts:
            figures["decoding"] = decoding(scratch, arguments.rounds, arguments.times)
            for kind, values in figures["decoding"].items():
                ratios[f"CPU of RGB over 4:2:0, decoding {kind}"] = 1 / values["ratio"]
        if "queue" in parts:
            for persist in (False, True):
                kind = "kept on disk" if persist else "in memory"
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    found = runner.run(queue(scratch / kind, arguments.rounds, arguments.seconds, persist))
                figures[f"queue, {kind}"] = found
                ratios[f"CPU of RGB over 4:2:0, queue {kind}"] = 1 / found["ratio"]
                ratios[f"CPU of RGB over 4:2:0, Redis {kind}"] = 1 / found["ratio of redis"]
        if "engine" in parts:
            figures["engine"] = engine(10 * arguments.rounds)
        if "labels" in parts:
            videos = sorted(arguments.videos.iterdir()) if arguments.videos else []
            if not videos:
                videos = [scratch / "340p.mp4"]
                encode(videos[0], next(iter(KINDS)), b_frames=True)
            figures["labels"] = labels(arguments.model, videos, scratch)
    return figures, ratios


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="decoding,queue,engine,labels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round of the queue")
    parser.add_argument("--times", type=int, default=10, help="decodes in one round")
    parser.add_argument("--model", type=Path, default=Path("model_repository/camera_motion"))
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = record.machine()
    figures, ratios = run(arguments)
    record.write("clip_format", figures, began=began, ratios=ratios, path=arguments.json)
    for name, ratio in ratios.items():
        print(f"{name:60} {ratio:.3f}")
    if "labels" in figures:
        print(figures["labels"])


if __name__ == "__main__":
    main()
