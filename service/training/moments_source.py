"""Batches of generated moments: clips that stand still but for one or two frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from service.contracts import ClipFormat
from service.model.preprocess import as_served
from service.training.camera_motion.camera_moments import (
    MOMENT_LABELS,
    Moments,
    MomentsBatch,
    MomentsConfig,
    randomly_turned,
)
from service.training.camera_motion.textures import picture_files, texture_bank
from service.training.config import MomentsData
from service.training.grains import Grains
from service.training.sources import Examples, generator_for

TEXTURE_SIDE = 256
"""Pixels: room for the camera to look aside."""


def textures(data: MomentsData, seed: int, *, held_out: bool) -> Tensor:
    """Tiles of the pictures to train on, or of those held out."""
    return texture_bank(
        picture_files(data.held_out_pictures if held_out else data.pictures),
        tiles_each=data.tiles_each,
        procedural=data.procedural // 8 if held_out else data.procedural,
        side=TEXTURE_SIDE,
        seed=seed + held_out,
    )


class GeneratedMoments:
    """Moments over the pictures of a folder."""

    labels = MOMENT_LABELS
    multi_label = False
    grain = 8
    """Clips that are generated together; parts of a batch begin and end at its multiples."""

    def __init__(self, data: MomentsData, frames: int, side: int, seed: int, clip_format: ClipFormat = "rgb") -> None:
        self._data, self._seed, self._clip_format = data, seed, clip_format
        self._config = MomentsConfig(frames=frames, side=side)
        self._bank = textures(data, seed, held_out=False)
        self._grains = Grains(self.grain, data.reuse, self._made)

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `Source`. Raises ValueError where a part does not fall on whole grains."""
        parts = [
            self._examples(
                *randomly_turned(made.clips, made.labels, made.cut, generator_for(self._seed, step, grain, 1))
            )
            for grain, made in self._grains.of(step, first, last)
        ]
        return Examples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _made(self, turn: int, grain: int, grains: range) -> MomentsBatch:
        draw = generator_for(self._seed, turn, grain)
        labels = torch.randint(0, len(MOMENT_LABELS), (self.grain,), generator=draw)
        return Moments(self._bank, self._config, int(draw.initial_seed())).batch(labels)

    def held_out(self) -> list[Examples]:
        """See `Source`: as many clips of each class, of pictures that are never trained on."""
        camera = Moments(textures(self._data, self._seed, held_out=True), self._config, self._seed + 1)
        every = torch.arange(len(MOMENT_LABELS))
        batches = (camera.batch(every) for _ in range(self._data.evaluation_clips // len(MOMENT_LABELS)))
        return [self._examples(batch.clips, batch.labels, batch.cut) for batch in batches]

    def _examples(self, clips: Tensor, labels: Tensor, cut: Tensor) -> Examples:
        targets = F.one_hot(labels, len(MOMENT_LABELS)).float()
        return Examples(as_served(clips, self._clip_format), targets, cut)
