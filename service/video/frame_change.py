"""How much one picture differs from another, beyond what a camera that moves explains.

Shapes: N pictures of S x S gray levels, reduced from whole frames.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

SIDE = 16
"""S, pixels."""
# A camera may turn by so many of the S pixels between two pictures, to each side.
_REACH = 3
# Pictures whose gray levels differ by less are taken for equal without a look for a shift.
_SMALL = 2.0
# Standard deviation of gray levels that a picture is taken to have at least: noise on black is no content.
_CONTRAST = 6.0
_AT_ONCE = 256

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]


class FrameReducer:
    """Makes the small gray pictures of one stream."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def reduced(self, frame: VideoFrame) -> Gray:
        """uint8 `[S, S]`: the whole frame, squeezed to a square.

        Raises FFmpegError or ValueError where its colors cannot be converted.
        """
        # threads=1: the default starts one scaling thread per core in every decode process.
        small = self._reformatter.reformat(frame, SIDE, SIDE, format="gray", interpolation="AREA", threads=1)
        return np.asarray(small.to_ndarray(), dtype=np.uint8)


def changes(pictures: Gray, distance: int = 1) -> Floats:
    """float32 `[N - distance]`: how much each of `[N, S, S]` differs from that `distance` before it."""
    count = max(0, len(pictures) - distance)
    starts = range(0, count, _AT_ONCE)
    ahead = pictures[distance:]
    found = [_between(pictures[i : min(i + _AT_ONCE, count)], ahead[i : i + _AT_ONCE]) for i in starts]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _between(before: Gray, after: Gray) -> Floats:
    """float32 `[N]`: how much `after` `[N, S, S]` differs from `before`.

    0 for equal pictures, about 1 for pictures that have nothing in common: the mean difference of gray levels where
    the two lie over each other best, as a share of their contrast. Half of what changes all levels alike is left out,
    because light changes within a shot too.
    """
    one, other = before.astype(np.float32), after.astype(np.float32)
    found = np.abs(one - other).mean(axis=(1, 2))
    moved = np.flatnonzero(found > _SMALL)
    if len(moved):
        found[moved] = np.minimum(found[moved], _least_difference(one[moved], other[moved]))
    contrast = np.maximum(_CONTRAST, (one.std(axis=(1, 2)) + other.std(axis=(1, 2))) / 2)
    return np.asarray(found / contrast, dtype=np.float32)


def _least_difference(one: Floats, other: Floats) -> Floats:
    light = other.mean(axis=(1, 2), keepdims=True) - one.mean(axis=(1, 2), keepdims=True)
    other = other - light / 2
    reach = range(-_REACH, _REACH + 1)
    shifted = [np.abs(_cut(one, y, x) - _cut(other, -y, -x)).mean(axis=(1, 2)) for y in reach for x in reach]
    return np.asarray(np.min(shifted, axis=0), dtype=np.float32)


def _cut(pictures: Floats, y: int, x: int) -> Floats:
    """The part that another picture, moved by `(y, x)`, lies over."""
    return pictures[:, max(0, y) : SIDE + min(0, y), max(0, x) : SIDE + min(0, x)]
