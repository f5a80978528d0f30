"""Real scenes before cameras that stand still: people, leaves and water that move, for a virtual camera to look at.

`python -m service.evaluation.still_scenes OUT.pt VIDEOS...` gathers them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 144, 192
INTERVAL_S = 4 / 30
_SMOOTH, _CHANGE = 7, 14.0
"""Pixels over which a change of so many levels counts as something that moves."""


@dataclass(frozen=True)
class Living:
    """N scenes of T frames."""

    frames: Tensor
    """uint8 `(N, T, 3, 144, 192)`."""
    busiest: Tensor
    """float32 `(N, 2)` where most of the motion is, x and y in -1 .. 1."""

    def cut_out(self, scenes: Tensor) -> tuple[Tensor, Tensor]:
        """Scenes `(B,)` and masks of what moves in them, both `(B, T, 3, 144, 192)` of 0 .. 255."""
        frames = self.frames[scenes].float()
        change = (frames - frames.median(1, keepdim=True).values).abs().amax(2)  # (B, T, H, W)
        mask = ((F.avg_pool2d(change, _SMOOTH, stride=1, padding=_SMOOTH // 2) - _CHANGE) / _CHANGE).clamp(0, 1)
        return frames, 255 * mask[:, :, None].expand(-1, -1, 3, -1, -1)

    def save(self, path: Path) -> None:
        """Write them to a file."""
        torch.save({"frames": self.frames, "busiest": self.busiest}, path)


def read_living(path: Path) -> Living:
    """Scenes that `Living.save` wrote. Raises OSError where there are none."""
    kept = torch.load(path, weights_only=True, mmap=True)
    return Living(kept["frames"], kept["busiest"])


def still_scenes(shots: Sequence[np.ndarray], fps: Sequence[float], frames: int) -> Living:
    """Scenes out of shots uint8 `(N, H, W, 3)` at `fps` frames a second each, whose camera stands still."""
    scenes, places = [], []
    for shot, rate in zip(shots, fps, strict=True):
        at = np.floor(np.arange(frames) * INTERVAL_S * rate + 1e-6).astype(int).clip(max=len(shot) - 1)
        scene = torch.from_numpy(np.ascontiguousarray(shot[at])).permute(0, 3, 1, 2).float()
        scenes.append(fitted(scene))
        places.append(_busiest(scenes[-1].float()))
    return Living(torch.stack(scenes), torch.stack(places))


def fitted(frames: Tensor) -> Tensor:
    """The middle of frames `(T, 3, H, W)` of 0 .. 255 as uint8 `(T, 3, 144, 192)`."""
    height, width = frames.shape[2:]
    high, wide = min(height, width * HEIGHT // WIDTH), min(width, height * WIDTH // HEIGHT)
    top, left = (height - high) // 2, (width - wide) // 2
    middle = frames[:, :, top : top + high, left : left + wide]
    small = F.interpolate(middle, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte()


def _busiest(scene: Tensor) -> Tensor:
    change = F.avg_pool2d(scene.mean(1).std(0)[None, None], 48, stride=12)[0, 0]
    row, column = divmod(int(change.argmax()), change.size(1))
    x = (column * 12 + 24) / WIDTH * 2 - 1
    y = (row * 12 + 24) / HEIGHT * 2 - 1
    return torch.tensor([x, y])
