"""Cuts: between which two pictures one shot ends and the next begins.

Shapes: N small gray pictures of S x S, as `service.video.frame_change` makes them.
"""

from __future__ import annotations

import numpy as np

from service.video.frame_change import Floats, Gray, changes

# A step between sampled pictures that may hold a cut, and how far it stands out from the steps beside it.
_COARSE_CHANGE, _COARSE_RATIO = 0.33, 1.25
# The same of a step between successive frames, where a cut stands out more.
_FINE_CHANGE, _FINE_RATIO = 0.3, 2.5
# A step that stands out by less than this is a cut only if the frames some steps before and after it are as far apart:
# somebody who passes close by the camera changes half of the picture for a moment.
_CLEAR_RATIO, _APART_CHANGE = 15.0, 0.65
_BESIDE = 3
# Of a change that is undone after two steps this share is left: a flash, or something that passes close by.
_UNDONE = 0.5


def candidates(pictures: Gray) -> dict[int, float]:
    """Steps of sampled pictures that may hold a cut, with their change: step i lies before picture i + 1."""
    found = changes(pictures)
    beside = _beside(found)
    stands_out = (found >= _COARSE_CHANGE) & (found >= _COARSE_RATIO * beside)
    return {int(i): float(found[i]) for i in np.flatnonzero(stands_out) if not _undone(pictures, int(i), found[i])}


def cut_among(pictures: Gray, first: int, last: int) -> tuple[int, float] | None:
    """Which of the pictures `first` to `last` of `[N, S, S]` successive frames begins a shot, and its change.

    None where none does.
    """
    found = changes(pictures)
    steps = found[first - 1 : last]
    if not len(steps):
        return None
    step = first - 1 + int(np.argmax(steps))
    beside = float(_beside(found)[step])
    if found[step] < max(_FINE_CHANGE, _FINE_RATIO * beside):
        return None
    ends = [max(0, step + 1 - _BESIDE), min(len(pictures) - 1, step + _BESIDE)]
    if found[step] < _CLEAR_RATIO * beside and float(changes(pictures[ends])[0]) < _APART_CHANGE:
        return None
    return step + 1, float(found[step])


def _beside(found: Floats) -> Floats:
    """`[N]` median of the up to six changes beside each."""
    padded = np.pad(found.astype(np.float64), _BESIDE, constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _BESIDE + 1)
    # Not `nanmedian`, which loads a module when it is first called: a sandbox worker cannot.
    others = np.sort(np.delete(around, _BESIDE, axis=1), axis=1)
    count, rows = np.isfinite(others).sum(axis=1), np.arange(len(others))
    low, high = others[rows, np.maximum(count - 1, 0) // 2], others[rows, count // 2]
    return np.asarray(np.where(count > 0, (low + high) / 2, 0.0), dtype=np.float32)


def _undone(pictures: Gray, step: int, change: float) -> bool:
    """Whether the pictures beside a step look alike, as those beside a flash do."""
    pairs = ((step, step + 2), (step - 1, step + 1))
    return any(float(changes(pictures[[a, b]])[0]) < _UNDONE * change for a, b in pairs if a >= 0 and b < len(pictures))
