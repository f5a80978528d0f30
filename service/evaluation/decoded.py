"""A set of footage as the service's own video package decodes it for a model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.contracts import ClipSpec, DecodedVideo, JobRequest
from service.errors import VidtrError
from service.evaluation.real_test_set import TABLE, Entry, read_real_test_set
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.video.clips import decode_file
from service.video.config import VideoLimits


@dataclass(frozen=True)
class RealTestSet:
    """Clips of N entries, one window each, in the order of the table."""

    entries: list[Entry]
    clips: Tensor
    """uint8 `(N, T, H, W, 3)`."""
    cut: Tensor
    """int64 `(N,)`: the last slot that shows the first shot, -1 where there is no cut."""

    @property
    def labels(self) -> Tensor:
        """int64 `(N,)`, classes of `CAMERA_MOTION_LABELS`."""
        return torch.tensor([LABELS.index(entry.label) for entry in self.entries])

    def part(self, keep: Callable[[Entry], bool]) -> RealTestSet:
        """The entries for which `keep` holds."""
        chosen = [i for i, entry in enumerate(self.entries) if keep(entry)]
        return RealTestSet([self.entries[i] for i in chosen], self.clips[chosen], self.cut[chosen])


def decode_real_test_set(
    folder: Path, spec: ClipSpec, limits: VideoLimits, on_progress: Callable[[str, int, int], None]
) -> RealTestSet:
    """Decode each entry of a set for the model; the clips are kept beside the table, so that it is done once.

    Raises OSError where the folder holds no set and ValueError naming a file that cannot be decoded, or that does not
    hold the cut that the table gives.
    """
    entries = read_real_test_set(folder)
    key = (folder / TABLE).read_text(encoding="utf-8")
    key += repr((spec.clip_shape, spec.frame_step, spec.reference_fps, spec.resize_short_side, spec.resize))
    cache = folder / f"clips-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not cache.exists():
        clips, cuts = [], []
        # Another process may be decoding the same set.
        with tempfile.TemporaryDirectory(dir=folder, prefix="decoding-") as scratch:
            raw, partial = Path(scratch) / "clip.raw", Path(scratch) / "clips.npz"
            for number, entry in enumerate(entries):
                on_progress("decoding", number, len(entries))
                clip, cut = _decoded(folder, entry, raw, spec, limits)
                clips.append(clip)
                cuts.append(cut)
            np.savez(partial, clips=np.stack(clips), cut=np.array(cuts))
            partial.replace(cache)
    with np.load(cache) as kept:
        return RealTestSet(entries, torch.from_numpy(kept["clips"]), torch.from_numpy(kept["cut"]))


def _decoded(folder: Path, entry: Entry, raw: Path, spec: ClipSpec, limits: VideoLimits) -> tuple[np.ndarray, int]:
    request = JobRequest(windows=1)
    if entry.unaltered:
        request = JobRequest(windows=1, start=entry.start_s, end=entry.start_s + spec.span_s + 0.1)
    try:
        decoded = decode_file(folder / entry.file, raw, spec, request, limits)
        clip = np.fromfile(raw, dtype=np.uint8).reshape(spec.clip_shape)
    except VidtrError as error:
        raise ValueError(f"{entry.file} does not decode: {error.detail}") from error
    return clip, _slot_before(entry, decoded)


def _slot_before(entry: Entry, decoded: DecodedVideo) -> int:
    if entry.cut_s < 0:
        return -1
    times = np.array(decoded.windows[0].times_s)
    slot = int((times < entry.cut_s - 1e-3).sum()) - 1
    if not 0 <= slot < len(times) - 1:
        raise ValueError(f"{entry.file} is cut at {entry.cut_s} s, outside its sampled frames at {times.tolist()} s")
    return slot
