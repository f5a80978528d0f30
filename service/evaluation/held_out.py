"""Generated clips to evaluate on, as many as are asked for, over pictures that are never trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion.generator import CameraMotion, GeneratorConfig
from service.training.config import GeneratedData
from service.training.motion_source import held_out_bank


class HeldOutMotion:
    """Camera motion over the held-out pictures of `data`; other clips than those that a training run watches."""

    def __init__(self, data: GeneratedData, frames: int, side: int, seed: int) -> None:
        self._bank = held_out_bank(data, side, seed)
        self._config, self._seed = GeneratorConfig(frames=frames, side=side), seed

    def clips(self, each: int) -> tuple[Tensor, Tensor, Tensor]:
        """`each` clips of every class, uint8 `(B, T, n, n, 3)`, their classes and cuts, int64 `(B,)`.

        The first are the same however many there are.
        """
        camera = CameraMotion(self._bank, self._config, self._seed)
        batches = [camera.batch(torch.arange(len(LABELS))) for _ in range(each)]
        clips, labels, cut = (torch.cat([getattr(b, name) for b in batches]) for name in ("clips", "labels", "cut"))
        return clips, labels, cut

    def cuts(self, each: int) -> tuple[Tensor, Tensor]:
        """`each` clips that are cut at every position, and the positions."""
        camera = CameraMotion(self._bank, self._config, self._seed + 1)
        positions = self._config.frames - 1
        clips: list[Tensor] = []
        found: list[int] = []
        while len(found) < each * positions:
            batch = camera.batch(torch.full((positions,), LABELS.index("cut")))
            for clip, slot in zip(batch.clips, batch.cut.tolist(), strict=True):
                if found.count(slot) < each:
                    found.append(slot)
                    clips.append(clip)
        return torch.stack(clips), torch.tensor(found)
