"""Batches of generated camera moves."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from service.contracts import ClipFormat
from service.model.preprocess import as_served
from service.model.presets import CAMERA_MOVE_LABELS
from service.training.camera_motion.living import Living, read_living
from service.training.camera_motion.mixed_moves import MixedMoves, MovesBatch, MovesConfig
from service.training.camera_motion.moves_symmetry import randomly_mirrored
from service.training.camera_motion.textures import picture_files, texture_bank
from service.training.config import MovesData
from service.training.sources import Examples, generator_for

TEXTURE_SIDE = 256
"""Pixels: room for a whole frame at full sharpness, and for the camera to travel."""


class GeneratedMoves:
    """Camera moves over the pictures of a folder and, where there are any, real scenes before still cameras."""

    labels = CAMERA_MOVE_LABELS
    multi_label = True
    grain = 16
    """Clips that are generated together; parts of a batch begin and end at its multiples."""

    def __init__(
        self, data: MovesData, frames: int, side: int, cells: int, seed: int, clip_format: ClipFormat = "rgb"
    ) -> None:
        self._data, self._seed, self._clip_format = data, seed, clip_format
        self._config = MovesConfig(frames=frames, side=side, cells=cells, framing=data.framing)
        self._living = _scenes(data.scenes, frames)
        self._round: tuple[int, dict[int, MovesBatch]] = (-1, {})

    def _textures(self, folder: Path, procedural: int, seed: int) -> Tensor:
        return texture_bank(
            picture_files(folder),
            tiles_each=self._data.tiles_each,
            procedural=procedural,
            side=TEXTURE_SIDE,
            seed=seed,
        )

    # Made when they are asked for: a process trains or evaluates, and seldom both.
    @cached_property
    def _bank(self) -> Tensor:
        return self._textures(self._data.pictures, self._data.procedural, self._seed)

    @cached_property
    def _held_out(self) -> tuple[Tensor, Living | None]:
        bank = self._textures(self._data.held_out_pictures, self._data.procedural // 8, self._seed + 1)
        return bank, _scenes(self._data.held_out_scenes, self._config.frames)

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `Source`. Raises ValueError where a part does not fall on whole grains."""
        if first % self.grain or last % self.grain:
            raise ValueError(f"parts of a generated batch must be multiples of {self.grain}, not {first} .. {last}")
        # A clip serves `reuse` steps: those that share the number of its round.
        turn = step // self._data.reuse
        parts = []
        for grain in range(first // self.grain, last // self.grain):
            made = self._made(turn, grain)
            parts.append(self._examples(randomly_mirrored(made, generator_for(self._seed, step, grain, 1))))
        return Examples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _made(self, turn: int, grain: int) -> MovesBatch:
        if self._round[0] != turn:
            self._round = (turn, {})
        made = self._round[1]
        if grain not in made:
            key = int(generator_for(self._seed, turn, grain).initial_seed())
            made[grain] = MixedMoves(self._bank, self._living, self._config, key).batch(self.grain)
        return made[grain]

    def held_out(self) -> list[Examples]:
        """See `Source`: clips of pictures and scenes that are never trained on."""
        camera = MixedMoves(*self._held_out, self._config, self._seed + 1)
        return [self._examples(camera.batch(self.grain)) for _ in range(self._data.evaluation_clips // self.grain)]

    def _examples(self, batch: MovesBatch) -> Examples:
        return Examples(as_served(batch.clips, self._clip_format), batch.targets, batch.cut, batch.flow)


def _scenes(file: Path | None, frames: int) -> Living | None:
    if file is None:
        return None
    living = read_living(file)
    if living.frames.size(1) != frames:
        raise ValueError(f"the scenes of {file.name} have {living.frames.size(1)} frames, not {frames}")
    return living
