"""Batches of generated camera moves."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from service.contracts import ClipFormat
from service.model.preprocess import as_served
from service.model.presets import CAMERA_MOVE_LABELS
from service.training.camera_motion.living import Living, read_living
from service.training.camera_motion.mixed_moves import MixedMoves, MovesBatch, MovesConfig
from service.training.camera_motion.moves_symmetry import randomly_mirrored
from service.training.camera_motion.real_windows import RealWindows, read_real_windows
from service.training.camera_motion.textures import picture_files, texture_bank
from service.training.config import MovesData
from service.training.grains import Grains
from service.training.render_ahead import Key, RenderAhead
from service.training.sources import Examples, generator_for
from service.training.valued_clips import ValuedClips, read_valued_clips

TEXTURE_SIDE = 256
"""Pixels: room for a whole frame at full sharpness, and for the camera to travel."""

_TEXTURED = 0.45
"""Share of a picture that has edges: real frames have skies, walls and blurred backgrounds too."""


class GeneratedMoves:
    """Camera moves over the pictures of a folder, and over real scenes and windows where there are any."""

    labels = CAMERA_MOVE_LABELS
    multi_label = True
    grain = 16
    """Clips that are generated together; parts of a batch begin and end at its multiples."""

    def __init__(
        self,
        data: MovesData,
        frames: int,
        side: int,
        cells: int,
        seed: int,
        clip_format: ClipFormat = "rgb",
        renderers: int = 0,
    ) -> None:
        self._data, self._seed, self._clip_format, self._renderers = data, seed, clip_format, renderers
        self._config = MovesConfig(
            frames=frames, side=side, cells=cells, framing=data.framing, real_share=data.real_share
        )
        self._living = _scenes(data.scenes, frames)
        self._real = _real(data.real_windows, frames)
        self._valued = _valued(data.valued_clips, frames, side)
        self._grains = Grains(self.grain, data.reuse, self._rendered)

    def _textures(self, folder: Path, procedural: int, seed: int) -> Tensor:
        return texture_bank(
            picture_files(folder),
            tiles_each=self._data.tiles_each,
            procedural=procedural,
            side=TEXTURE_SIDE,
            seed=seed,
            share=_TEXTURED,
        )

    # Made when they are asked for: a process trains or evaluates, and seldom both.
    @cached_property
    def _bank(self) -> Tensor:
        return self._textures(self._data.pictures, self._data.procedural, self._seed)

    @cached_property
    def _ahead(self) -> RenderAhead | None:
        return RenderAhead(self._renderers, self._bank, self._data, self._config) if self._renderers else None

    @property
    def _held_out_camera(self) -> MixedMoves:
        bank = self._textures(self._data.held_out_pictures, self._data.procedural // 8, self._seed + 1)
        living = _scenes(self._data.held_out_scenes, self._config.frames)
        real = _real(self._data.held_out_real_windows, self._config.frames)
        return MixedMoves(bank, living, self._config, self._seed + 1, real)

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `Source`. Raises ValueError where a part does not fall on whole grains."""
        if self._valued is None:
            grains = self._grains.of(step, first, last)
        else:
            grains = Grains(self.grain, 1, partial(self._chosen, self._valued)).of(step, first, last)
        parts = [
            self._examples(randomly_mirrored(made, generator_for(self._seed, step, grain, 1))) for grain, made in grains
        ]
        return Examples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _chosen(self, valued: ValuedClips, step: int, grain: int, _grains: range) -> MovesBatch:
        generator = generator_for(self._seed, step, grain)
        measured = max(1, round(self._data.valued_share * self.grain)) if len(valued.others) else self.grain
        rows = [
            pool[torch.randint(len(pool), (count,), generator=generator)]
            for pool, count in ((valued.measured, measured), (valued.others, self.grain - measured))
            if count
        ]
        return valued.batch(torch.cat(rows))

    def _rendered(self, turn: int, grain: int, grains: range) -> MovesBatch:
        key = self._key(turn, grain)
        if self._ahead is None:
            return MixedMoves(self._bank, self._living, self._config, key[0], self._real).batch(self.grain)
        # Two for each process: one that it renders and one that it renders next.
        turns = range(turn, turn + 2 + 2 * self._ahead.processes // len(grains))
        order = [(later, each) for later in turns for each in grains if (later, each) > (turn, grain)]
        return self._ahead.batch(key, [self._key(*later) for later in order])

    def _key(self, turn: int, grain: int) -> Key:
        return int(generator_for(self._seed, turn, grain).initial_seed()), self.grain

    def held_out(self) -> list[Examples]:
        """See `Source`: clips of pictures and scenes that are never trained on."""
        camera = self._held_out_camera
        return [self._examples(camera.batch(self.grain)) for _ in range(self._data.evaluation_clips // self.grain)]

    def _examples(self, batch: MovesBatch) -> Examples:
        return Examples(as_served(batch.clips, self._clip_format), batch.targets, batch.cut, batch.flow, batch.values)


def _scenes(file: Path | None, frames: int) -> Living | None:
    if file is None:
        return None
    living = read_living(file)
    if living.frames.size(1) != frames:
        raise ValueError(f"the scenes of {file.name} have {living.frames.size(1)} frames, not {frames}")
    return living


def _real(file: Path | None, frames: int) -> RealWindows | None:
    if file is None:
        return None
    real = read_real_windows(file)
    if real.frames.size(1) != frames:
        raise ValueError(f"the windows of {file.name} have {real.frames.size(1)} frames, not {frames}")
    return real


def _valued(file: Path | None, frames: int, side: int) -> ValuedClips | None:
    if file is None:
        return None
    valued = read_valued_clips(file)
    if valued.clips.shape[1:4] != (frames, side, side):
        found = "x".join(map(str, valued.clips.shape[1:4]))
        raise ValueError(f"the clips of {file.name} are {found}, not {frames}x{side}x{side}")
    if not len(valued.measured):
        raise ValueError(f"the clips of {file.name} have no values")
    return valued
