"""Batches of generated camera motion."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from service.contracts import ClipFormat
from service.model.preprocess import as_served
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion.generator import Batch, CameraMotion, GeneratorConfig
from service.training.camera_motion.symmetry import randomly_transformed
from service.training.camera_motion.textures import picture_files, texture_bank
from service.training.config import GeneratedData
from service.training.sources import Examples, generator_for

TEXTURE_SCALE = 4
"""Side of a texture over the side of a clip: room for the camera to travel."""


def held_out_bank(data: GeneratedData, side: int, seed: int) -> Tensor:
    """Textures of the pictures that are never trained on, for clips of `side` pixels."""
    return texture_bank(
        picture_files(data.held_out_pictures),
        tiles_each=data.tiles_each,
        procedural=data.procedural // 8,
        side=TEXTURE_SCALE * side,
        seed=seed,
    )


class Generated:
    """Camera motion over the pictures of a folder."""

    labels = LABELS
    multi_label = False
    grain = 8
    """Clips that are generated together; parts of a batch begin and end at its multiples."""

    def __init__(
        self, data: GeneratedData, frames: int, side: int, cells: int, seed: int, clip_format: ClipFormat = "rgb"
    ) -> None:
        self._data, self._seed, self._clip_format = data, seed, clip_format
        self._config = GeneratorConfig(frames=frames, side=side, cells=cells)
        self._bank = texture_bank(
            picture_files(data.pictures),
            tiles_each=data.tiles_each,
            procedural=data.procedural,
            side=TEXTURE_SCALE * side,
            seed=seed,
        )

    @cached_property
    def _held_out_bank(self) -> Tensor:
        # Made when it is asked for: of several processes one evaluates.
        return held_out_bank(self._data, self._config.side, self._seed + 1)

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `Source`. Raises ValueError where a part does not fall on whole grains."""
        if first % self.grain or last % self.grain:
            raise ValueError(f"parts of a generated batch must be multiples of {self.grain}, not {first} .. {last}")
        # A clip serves `reuse` steps: those that share the number of its round.
        turn = step // self._data.reuse
        difficulty = min(1.0, turn * self._data.reuse / self._data.easy_steps) if self._data.easy_steps else 1.0
        parts = []
        for grain in range(first // self.grain, last // self.grain):
            key = int(generator_for(self._seed, turn, grain).initial_seed())
            camera = CameraMotion(self._bank, self._config, key)
            batch = camera.batch(camera.draw_labels(self.grain), difficulty)
            batch = randomly_transformed(batch, generator_for(self._seed, step, grain, 1))
            parts.append(self._examples(batch))
        return Examples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def held_out(self) -> list[Examples]:
        """See `Source`: as many clips of each class, from pictures that are never trained on."""
        camera = CameraMotion(self._held_out_bank, self._config, self._seed + 1)
        result = []
        for _ in range(self._data.evaluation_clips // len(LABELS)):
            batch = camera.batch(torch.arange(len(LABELS)))
            result.append(self._examples(batch))
        return result

    def _examples(self, batch: Batch) -> Examples:
        clips = as_served(batch.clips, self._clip_format)
        return Examples(clips, F.one_hot(batch.labels, len(LABELS)).float(), batch.cut, batch.flow)
