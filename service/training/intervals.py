"""How sure a share is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict


class Share(TypedDict):
    """A share of `count` cases with its 95 % interval by Wilson (1927), all from 0 to 1."""

    share: float
    low: float
    high: float
    hits: int
    count: int


def wilson(hits: int, count: int, z: float = 1.959964) -> Share:
    """The share of `hits` in `count` cases; without any case the interval is all of 0 .. 1.

    Raises ValueError where the hits are no part of the count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"hits must lie in 0 .. {count}, not {hits}")
    if count == 0:
        return Share(share=0.0, low=0.0, high=1.0, hits=0, count=0)
    low, high = _bounds(hits / count, count, z)
    return Share(share=hits / count, low=low, high=high, hits=hits, count=count)


def weighted_share(hits: Sequence[bool], weights: Sequence[float], z: float = 1.959964) -> Share:
    """The weighted share of hits; the interval is that of as many cases as the weights leave (Kish, 1965).

    `hits` and `count` of the result are cases, without weights. Raises ValueError where a weight is not positive or
    there are not as many as hits.
    """
    if len(hits) != len(weights) or any(weight <= 0 for weight in weights):
        raise ValueError(f"{len(hits)} cases need as many positive weights, not {list(weights)[:5]} ...")
    if not hits:
        return wilson(0, 0)
    total = sum(weights)
    share = sum(weight for hit, weight in zip(hits, weights, strict=True) if hit) / total
    effective = total**2 / sum(weight**2 for weight in weights)
    low, high = _bounds(share, effective, z)
    return Share(share=share, low=low, high=high, hits=sum(hits), count=len(hits))


def _bounds(share: float, count: float, z: float) -> tuple[float, float]:
    square = z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def shown(share: Share) -> str:
    """Percent, interval and counts."""
    bounds = f"{100 * share['low']:.1f} - {100 * share['high']:.1f}"
    return f"{100 * share['share']:.1f} % ({bounds}; {share['hits']} of {share['count']})"
