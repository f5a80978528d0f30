"""Which frames a score rests on, found by leaving frames out: their Shapley values. Pure.

A frame that is left out is shown as the nearest one that is kept, of two equally near ones the earlier; where all are
left out, as the one before the middle. So a clip stays a clip, and what is gone is what that frame alone had to tell.
The value of a frame is what it adds to the score, on average over all orders in which frames may be added: the values
sum to the score less that of the still clip. For up to `EXACT_FRAMES` frames all subsets are scored; for more, the
subsets along random orders, with an error that is stated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Kept = NDArray[np.bool_]
Clip = NDArray[np.uint8]
Values = NDArray[np.float64]
Orders = NDArray[np.int64]
Value = Callable[[Kept], Values]
"""Scores `(M,)` of a clip of which only the frames `(M, T)` are kept."""

EXACT_FRAMES = 8
ORDERS = 64
CONFIDENCE = 0.95
ENOUGH = 0.9


@dataclass(frozen=True)
class Evidence:
    """What the frames of a clip of T frames contribute to one score."""

    contributions: Values
    """`(T,)`, negative where a frame speaks against the label"""
    error: float
    """0 where exact; otherwise with 95 % confidence no contribution is further off"""
    score: float
    still_score: float
    """of the clip in which a single frame stands still"""
    enough: tuple[int, ...]
    """the smallest set of frames found that keeps `ENOUGH` of the score; of several, the one with the highest score"""
    forwards: int
    """clips that were scored"""


@dataclass(frozen=True)
class Plan:
    """Which sets of a clip's T frames are scored."""

    kept: Kept
    """`(M, T)`, with the empty set and the whole among them"""
    orders: Orders | None
    """`(N, T)` random orders, each followed by its reverse; None where `kept` has all subsets"""

    @property
    def masks(self) -> Kept:
        """`(M - 1, T)`: what is kept in each clip that is scored beside the whole one."""
        return self.kept[~self.kept.all(1)]

    def values(self, whole: float, masked: Values) -> Values:
        """`(M,)` from the value of the whole clip and those `(M - 1,)` of `masks`."""
        every = self.kept.all(1)
        values = np.empty(len(self.kept))
        values[every], values[~every] = whole, masked
        return values


@lru_cache(maxsize=32)
def plan(frames: int, orders: int = ORDERS, seed: int = 0) -> Plan:
    """The sets for a clip of `frames` frames, the same whenever it is asked.

    `orders` is the number of random orders where there are too many frames for all subsets; each is walked forwards
    and backwards.

    Raises ValueError for no frames, or fewer than 2 orders where they are needed.
    """
    if frames < 1:
        raise ValueError(f"a clip has at least one frame, not {frames}")
    if frames <= EXACT_FRAMES:
        return Plan(subsets(frames), None)
    if orders < 2:
        raise ValueError(f"an error needs at least 2 orders, not {orders}")
    ways = _orders(frames, orders, seed)
    return Plan(np.unique(_walks(ways), axis=0), ways)


def evidence(value: Value, frames: int, *, orders: int = ORDERS, seed: int = 0) -> Evidence:
    """What each of `frames` frames contributes, by `value`. Raises what `plan` raises."""
    planned = plan(frames, orders, seed)
    return conclude(planned, value(planned.kept))


def conclude(planned: Plan, values: Values) -> Evidence:
    """What the `values` `(M,)` of the sets of a plan say of its frames."""
    kept, ways = planned.kept, planned.orders
    if ways is None:
        contributions, error = shapley(values), 0.0
    else:
        walks = _walks(ways)
        place = {one.tobytes(): number for number, one in enumerate(kept)}
        along = values[[place[one.tobytes()] for one in walks]]
        contributions, error = _walked(ways, along.reshape(len(ways), kept.shape[1] + 1))
    none, every = int(np.flatnonzero(~kept.any(1))[0]), int(np.flatnonzero(kept.all(1))[0])
    return Evidence(
        contributions, error, float(values[every]), float(values[none]), _enough(kept, values, values[every]), len(kept)
    )


def subsets(frames: int) -> Kept:
    """All sets of `frames` frames, `(2^T, T)`: set number m keeps the frames whose bits are set in m."""
    return (np.arange(1 << frames)[:, None] >> np.arange(frames) & 1).astype(bool)


def shown(kept: Kept) -> NDArray[np.int64]:
    """Which frame stands in each place, `(M, T)`, where the frames `kept` `(M, T)` are kept."""
    frames = kept.shape[1]
    place = np.arange(frames)
    distance = np.abs(place[:, None] - place).astype(np.float64)  # (place, candidate)
    # argmin takes the first of equals: the earlier one.
    nearest = np.where(kept[:, None], distance, np.inf).argmin(2)
    return np.asarray(np.where(kept.any(1, keepdims=True), nearest, (frames - 1) // 2), dtype=np.int64)


def variants(clip: Clip, kept: Kept) -> Clip:
    """The clip `(T, H, W, 3)` with only the frames `(M, T)` kept: `(M, T, H, W, 3)`."""
    return clip[shown(kept)]


def shapley(values: Values) -> Values:
    """Shapley values `(T,)` from the `values` `(2^T,)` of all `subsets`."""
    frames = len(values).bit_length() - 1
    kept = subsets(frames)
    size = kept.sum(1)
    ways = np.array([math.factorial(n) * math.factorial(frames - 1 - n) for n in range(frames)] + [0])
    weight = ways / math.factorial(frames)
    numbers = np.arange(len(values))
    return np.array(
        [
            (weight[size[without]] * (values[without | 1 << t] - values[without])).sum()
            for t in range(frames)
            for without in (numbers[~kept[:, t]],)
        ]
    )


def _orders(frames: int, count: int, seed: int) -> Orders:
    """`(2 count, T)` random orders, each followed by its reverse: their errors partly cancel."""
    # By hashes: the generators of a library may give other orders in its next release, and processes of both mix.
    forth = np.array([np.argsort([_drawn(seed, way, t) for t in range(frames)]) for way in range(count)])
    return np.stack([forth, forth[:, ::-1]], 1).reshape(2 * count, frames)


def _drawn(*of: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:7])


def _walks(orders: Orders) -> Kept:
    """The sets along each order, from none to all: `(orders x (T + 1), T)`."""
    when = np.argsort(orders, 1)
    return (when[:, None] < np.arange(orders.shape[1] + 1)[:, None]).reshape(-1, orders.shape[1])


def _walked(orders: Orders, values: Values) -> tuple[Values, float]:
    steps = np.diff(values, axis=1)  # what the frame that came added
    added = np.take_along_axis(steps, np.argsort(orders, 1), 1)
    pairs = added.reshape(-1, 2, added.shape[1]).mean(1)
    count = len(pairs)
    spread = pairs.std(0, ddof=1).max() / math.sqrt(count)
    # All frames together are right at once with that confidence.
    return pairs.mean(0), float(_quantile(1 - (1 - CONFIDENCE) / (2 * orders.shape[1]), count - 1) * spread)


def _quantile(p: float, freedom: int) -> float:
    """Of Student's distribution, from the normal one's by its first terms in 1 / freedom."""
    z = NormalDist().inv_cdf(p)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _enough(kept: Kept, values: Values, score: float) -> tuple[int, ...]:
    good = np.flatnonzero(values >= ENOUGH * score)
    best = good[np.lexsort((-values[good], kept[good].sum(1)))[0]]
    return tuple(int(t) for t in np.flatnonzero(kept[best]))


def rank_correlation(one: Values, other: Values) -> float | None:
    """Spearman's, of two `(T,)`; None where one of them is the same everywhere."""
    first, second = _ranks(one), _ranks(other)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Values) -> Values:
    """Ranks, of equal values their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()
    return np.asarray(((2 * last - count - 1) / 2)[place])


def deletion(value: Value, order: NDArray[np.int64]) -> float:
    """Mean score while frames are left out one after the other in `order` `(T,)`, all of them at last.

    The faster the score falls, the better the order says what counted.
    """
    when = np.argsort(order)
    left_out = np.arange(1, len(order) + 1)
    return float(value(when >= left_out[:, None]).mean())


def insertion(value: Value, order: NDArray[np.int64]) -> float:
    """Mean score while frames are added one after the other in `order` `(T,)`, all of them at last.

    The faster the score rises, the better the order says what counted.
    """
    when = np.argsort(order)
    added = np.arange(1, len(order) + 1)
    return float(value(when < added[:, None]).mean())
