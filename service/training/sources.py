"""Where batches come from: generated clips, or labeled videos decoded by the video package.

A batch depends on the seed, the step and the position in it, and on nothing that ran before: a resumed run sees what
the uninterrupted one would have seen, and several processes together see what one process would.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from service.contracts import ClipFormat, ClipSpec, JobRequest
from service.errors import VidtrError
from service.model.preprocess import as_rgb, as_served
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion.generator import Batch, CameraMotion, GeneratorConfig
from service.training.camera_motion.symmetry import randomly_transformed
from service.training.camera_motion.textures import picture_files, texture_bank
from service.training.config import GeneratedData, LabeledData
from service.training.samples import READERS, Sample, deal_folds
from service.video.clips import decode_file
from service.video.config import VideoLimits

TEXTURE_SCALE = 4
"""Side of a texture over the side of a clip: room for the camera to travel."""


class Examples(NamedTuple):
    """Clips with their targets."""

    clips: Tensor
    """uint8 `(B, T, H, W, 3)`."""
    targets: Tensor
    """float32 `(B, K)`, one-hot or multi-hot."""
    cut: Tensor
    """int64 `(B,)`, the slot before a generated cut, -1 where there is none."""
    flow: Tensor = torch.empty(0)
    """float32 `(B, T, g, g, 4)`, the generated motion at each patch; empty where it is not known."""


class Source(Protocol):
    """Batches to train on and videos to evaluate on."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several."""

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """Positions `first .. last - 1` of the batch of `size` clips of a step."""

    def held_out(self) -> list[Examples]:
        """The evaluation set; each entry holds all views of one video, or single clips, one row a video."""


def generator_for(seed: int, *numbers: int) -> torch.Generator:
    """A generator whose state depends on all the numbers."""
    digest = hashlib.sha256(repr((seed, *numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


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


class Videos:
    """Labeled videos, decoded once each through the video package and kept as uint8 clips in `cache`."""

    def __init__(
        self, data: LabeledData, spec: ClipSpec, limits: VideoLimits, cache: Path, seed: int, *, margin: float = 8 / 7
    ) -> None:
        reader = READERS[data.kind]
        samples = reader(data.videos, data.annotations)
        if data.held_out_annotations is None:
            folds = deal_folds(samples, data.folds)
            train = [s for s, fold in zip(samples, folds, strict=True) if fold != data.fold]
            held_out = [s for s, fold in zip(samples, folds, strict=True) if fold == data.fold]
        else:
            train, held_out = samples, reader(data.videos, data.held_out_annotations)
        if not train or not held_out:
            raise ValueError(f"{len(train)} videos to train on and {len(held_out)} to evaluate on: both need some")
        self.labels = tuple(sorted({label for s in (*train, *held_out) for label in s.labels}))
        self.multi_label = data.kind == "charades"
        self._data, self._spec, self._limits, self._cache, self._seed = data, spec, limits, cache, seed
        even = 2 if spec.clip_format == "yuv420" else 1
        larger = tuple(even * round(side * margin / even) for side in (spec.height, spec.width))
        self._larger = spec.model_copy(
            update={"height": larger[0], "width": larger[1], "resize_short_side": max(spec.resize_short_side, *larger)}
        )
        self.skipped: list[str] = []
        self._train = self._decoded(train, self._larger)
        self.held_out_samples = held_out
        if not self._train:
            raise ValueError(f"none of {len(train)} videos could be decoded: {self.skipped[0]}")

    def _decoded(self, samples: Sequence[Sample], spec: ClipSpec) -> list[tuple[Sample, Path]]:
        found = []
        for sample in samples:
            try:
                found.append((sample, self.clips_of(sample, spec, self._data.windows, 1)))
            except (VidtrError, OSError) as error:
                self.skipped.append(f"{sample.path}: {error}")
        return found

    def clips_of(self, sample: Sample, spec: ClipSpec, windows: int, crops: int) -> Path:
        """The file with the clips of a video, uint8 `(views, *clip_shape)`, decoded at the first call.

        Raises VidtrError where the video package refuses the video and OSError where it is not there.
        """
        stat = sample.path.stat()
        key = repr((str(sample.path.resolve()), stat.st_size, stat.st_mtime_ns, spec.clip_shape, spec.frame_step))
        key += repr((spec.reference_fps, spec.resize_short_side, spec.resize, windows, crops))
        path = self._cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            # The other processes of the run decode the same videos at the same time.
            with tempfile.TemporaryDirectory(dir=self._cache, prefix="decoding-") as scratch:
                raw, partial = Path(scratch) / "clips.raw", Path(scratch) / "clips.npy"
                decoded = decode_file(sample.path, raw, spec, JobRequest(windows=windows, crops=crops), self._limits)
                np.save(partial, np.fromfile(raw, dtype=np.uint8).reshape(len(decoded.clips), *spec.clip_shape))
                partial.replace(path)
        return path

    def target(self, sample: Sample) -> Tensor:
        """`(K,)`, 1 for the labels of the sample."""
        target = torch.zeros(len(self.labels))
        target[[self.labels.index(label) for label in sample.labels]] = 1
        return target

    def batch(self, step: int, first: int, last: int, size: int) -> Examples:
        """See `Source`: a random window and crop of each video, each video once an epoch."""
        clips, targets = [], []
        for position in range(first, last):
            epoch, place = divmod(step * size + position, len(self._train))
            order = torch.randperm(len(self._train), generator=generator_for(self._seed, epoch))
            sample, path = self._train[int(order[place])]
            draw = generator_for(self._seed, step, position)
            views = np.load(path, mmap_mode="r")
            view = torch.from_numpy(views[int(torch.randint(len(views), (), generator=draw))].copy())
            view = self._crop(as_rgb(view), draw)
            if self._data.flip and float(torch.rand((), generator=draw)) < 0.5:
                view = view.flip(2)
            clips.append(view)
            targets.append(self.target(sample))
        return Examples(torch.stack(clips), torch.stack(targets), torch.full((len(clips),), -1))

    def _crop(self, view: Tensor, draw: torch.Generator) -> Tensor:
        """A random crop of `(T, H', W', 3)`, the same in all frames, of a view enlarged by chance: `(T, H, W, 3)`."""
        size = (self._spec.height, self._spec.width)
        larger = 1.0
        if self._data.scale > 1:
            larger = 1 + (self._data.scale - 1) * float(torch.rand((), generator=draw))
        part = (round(size[0] / larger), round(size[1] / larger))
        down, right = (
            int(torch.randint(0, whole - side + 1, (), generator=draw))
            for whole, side in zip(view.shape[1:3], part, strict=True)
        )
        view = view[:, down : down + part[0], right : right + part[1]]
        if part == size:
            return view
        resized = F.interpolate(view.permute(0, 3, 1, 2).float(), size=size, mode="bilinear", align_corners=False)
        return resized.permute(0, 2, 3, 1).round().to(torch.uint8)

    def held_out(self, windows: int | None = None, crops: int = 1) -> list[Examples]:
        """See `Source`: the views of each video that the protocol asks for."""
        return self._all_views(self.held_out_samples, windows or self._data.windows, crops)

    def training_examples(self, windows: int | None = None) -> list[Examples]:
        """The training videos as `held_out` gives the others: not cropped by chance, nor mirrored."""
        return self._all_views([sample for sample, _ in self._train], windows or self._data.windows, 1)

    def _all_views(self, samples: Sequence[Sample], windows: int, crops: int) -> list[Examples]:
        result = []
        for sample in samples:
            try:
                path = self.clips_of(sample, self._spec, windows, crops)
            except (VidtrError, OSError) as error:
                self.skipped.append(f"{sample.path}: {error}")
                continue
            views = as_rgb(torch.from_numpy(np.load(path)))
            result.append(Examples(views, self.target(sample)[None], torch.full((1,), -1)))
        return result
