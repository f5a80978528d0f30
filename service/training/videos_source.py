"""Batches of labeled videos, decoded by the video package."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from service.contracts import ClipSpec, JobRequest
from service.errors import VidtrError
from service.model.preprocess import as_rgb
from service.training.config import LabeledData
from service.training.samples import READERS, Sample, deal_folds
from service.training.sources import Examples, generator_for
from service.video.clips import decode_file
from service.video.config import VideoLimits


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
                np.save(partial, np.fromfile(raw, dtype=np.uint8).reshape(decoded.clip_count, *spec.clip_shape))
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
