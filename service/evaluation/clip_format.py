"""How far a model's answers move because its clips travel in 4:2:0."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from service.inference.registry import scan_repository
from service.inference.torchscript_archive import load_archive
from service.model.preprocess import rgb_to_yuv420

DRIFT_FILE = "clip_format_drift.json"
"""Beside the `model.pt` of a version that takes 4:2:0."""
CLIPS = 8


@dataclass(frozen=True)
class Drift:
    """Logits of generated clips in 4:2:0 against those of the same clips in RGB, by the same weights."""

    clips: int
    same_label: int
    """clips that keep their best label"""
    largest: float
    """largest difference of a logit"""
    mean: float
    """mean difference of the logits"""
    span: float
    """from the lowest logit in RGB to the highest, of the same clip at most"""

    def __str__(self) -> str:
        return (
            f"4:2:0 against RGB: {self.same_label} of {self.clips} generated clips keep their best label; logits differ"
            f" by {self.mean:.2g} on average and {self.largest:.2g} at most, where they span {self.span:.2g}"
        )


def keep_drift(folder: Path, version: int) -> Drift:
    """Measure a version of the model in `folder` whose clips travel in 4:2:0, and write `DRIFT_FILE` beside its file.

    Raises what `scan_repository` raises, and ValueError where the version takes RGB.
    """
    [file] = [
        file
        for file in scan_repository(folder.parent)
        if file.spec.name == folder.name and file.spec.version == str(version)
    ]
    if file.spec.clip_format != "yuv420":
        raise ValueError(f"version {version} of {folder.name} takes clips in {file.spec.clip_format}")
    served: Any = load_archive(file.path)
    drift = _drift(served, moving_textures(CLIPS, file.spec.frames, file.spec.height, file.spec.width))
    (file.path.parent / DRIFT_FILE).write_text(json.dumps(asdict(drift), indent=2) + "\n", encoding="utf-8")
    return drift


def _drift(served: Any, clips: Tensor) -> Drift:
    with torch.inference_mode():
        pairs = [(served.served(clip)[0], served(rgb_to_yuv420(clip))[0]) for clip in torch.split(clips, 1)]
    rgb, yuv420 = (torch.cat(logits) for logits in zip(*pairs, strict=True))
    apart = (rgb - yuv420).abs()
    return Drift(
        clips=len(clips),
        same_label=int((rgb.argmax(1) == yuv420.argmax(1)).sum()),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        span=float((rgb.amax(1) - rgb.amin(1)).max()),
    )


def moving_textures(count: int, frames: int, height: int, width: int) -> Tensor:
    """Colored textures that drift, each clip another way: uint8 `(count, T, H, W, 3)`, always equal."""
    draw = torch.Generator().manual_seed(420)
    clips = []
    for _ in range(count):
        picture = torch.zeros(1, 3, 2 * height, 2 * width)
        for octave in range(1, 6):
            noise = torch.rand(1, 3, 2**octave, 2**octave, generator=draw) - 0.5
            picture += F.interpolate(noise, size=picture.shape[-2:], mode="bicubic", align_corners=False) / octave
        down, right = (torch.rand(2, generator=draw) * 8 - 4).tolist()
        steps = [(round(down * frame), round(right * frame)) for frame in range(frames)]
        clips.append(torch.cat([picture.roll(step, (2, 3))[:, :, :height, :width] for step in steps]))
    return (128 + 110 * torch.stack(clips)).clamp(0, 255).byte().permute(0, 1, 3, 4, 2)
