"""Dissolves: stretches over which one picture turns into another bit by bit.

Shapes: N small gray pictures of S x S, as `service.video.frame_change` makes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.video.frame_change import Gray, changes

# Steps between the pictures before and after a dissolve, of about 0.13 s each.
_LENGTHS = (3, 4, 5, 6, 8, 10, 12, 15, 18)
# A change between both ends that is no dissolve's.
_LEAST_CHANGE = 0.55
# Share of that change which the pictures in between may have beside the mixture of both ends.
_MOST_BESIDE = 0.1
# Share of a dissolve that may happen within one step: more is a cut.
_MOST_AT_ONCE = 0.55
# Contrast in the middle of a dissolve, as a share of that of both ends: two pictures that are mixed cancel each other
# out, while a camera that zooms or rolls shows as much as before.
_MOST_CONTRAST = 0.8
# Share of a dissolve at its ends that is too little to be seen.
_UNSEEN = 0.04
_AT_ONCE = 1024


class Stretch(NamedTuple):
    """Numbers of the last picture before a dissolve and of the first after it."""

    first: int
    last: int


def gradual_changes(pictures: Gray) -> list[Stretch]:
    """The dissolves among `[N, S, S]` pictures, ascending and not overlapping.

    A dissolve mixes what is before it with what is after it, ever more of the latter. A camera that moves changes as
    much, but what it shows in between is no mixture.
    """
    kept: list[Stretch] = []
    # Parts of a dissolve are mixtures too, so the longest come first.
    for length in (length for length in reversed(_LENGTHS) if length < len(pictures)):
        beside = _beside(pictures, length)
        for first in np.argsort(beside)[: int(np.isfinite(beside).sum())].tolist():
            if all(first + length <= other.first or first >= other.last for other in kept):
                kept.append(Stretch(first, first + length))
    return _joined(sorted(_tightened(pictures, stretch) for stretch in kept))


def _joined(stretches: list[Stretch]) -> list[Stretch]:
    """Without gaps of a single step: over a shot that moves, a long dissolve is found in parts."""
    joined: list[Stretch] = []
    for stretch in stretches:
        if joined and stretch.first - joined[-1].last <= 1:
            joined[-1] = Stretch(joined[-1].first, stretch.last)
        else:
            joined.append(stretch)
    return joined


def _beside(pictures: Gray, length: int) -> NDArray[np.float64]:
    """For each picture the share that is no mixture until `length` later; infinity where that is no dissolve."""
    result = np.full(len(pictures) - length, np.inf)
    large = np.flatnonzero(changes(pictures, length) >= _LEAST_CHANGE)
    for start in range(0, len(large), _AT_ONCE):
        firsts = large[start : start + _AT_ONCE]
        shares, beside = _mixtures(pictures, firsts, length)
        steps = np.diff(shares, axis=1)
        dissolves = (steps.max(axis=1) <= _MOST_AT_ONCE) & (steps.min(axis=1) >= -_UNSEEN)
        dissolves &= _contrast_left(pictures, firsts, shares) <= _MOST_CONTRAST
        worst = beside.max(axis=1)
        result[firsts] = np.where(dissolves & (worst <= _MOST_BESIDE), worst, np.inf)
    return result


def _contrast_left(pictures: Gray, firsts: NDArray[np.intp], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[M]` contrast, as a variance, of the picture nearest to an even mixture, as a share of the mean of both ends."""
    flat = pictures.reshape(len(pictures), -1)
    middles, lasts = firsts + np.abs(shares - 0.5).argmin(axis=1), firsts + shares.shape[1] - 1
    first, middle, last = (flat[numbers].var(axis=1) for numbers in (firsts, middles, lasts))
    return np.asarray(middle / np.maximum((first + last) / 2, 1e-9))


def _mixtures(pictures: Gray, firsts: NDArray[np.intp], length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`[M, length + 1]` share of the last picture in each from the first to the last, and what is beside the mixture.

    The latter as a share of the difference of both ends, by their squares.
    """
    flat = pictures.reshape(len(pictures), -1)
    ends = flat[firsts].astype(np.float64), flat[firsts + length].astype(np.float64)
    way = ends[1] - ends[0]
    size = np.maximum((way**2).sum(axis=1), 1.0)
    shares, beside = np.zeros((len(firsts), length + 1)), np.zeros((len(firsts), length + 1))
    shares[:, -1] = 1.0
    for step in range(1, length):
        moved = flat[firsts + step] - ends[0]
        shares[:, step] = (moved * way).sum(axis=1) / size
        beside[:, step] = ((moved - shares[:, step, None] * way) ** 2).sum(axis=1) / size
    return shares, beside


def _tightened(pictures: Gray, stretch: Stretch) -> Stretch:
    """Without the pictures at both ends that show no mixture."""
    shares, _ = _mixtures(pictures, np.array([stretch.first]), stretch.last - stretch.first)
    before = int(np.flatnonzero(shares[0] <= _UNSEEN)[-1])
    after = int(np.flatnonzero(shares[0] >= 1 - _UNSEEN)[0])
    return Stretch(stretch.first + before, stretch.first + after) if before < after else stretch
