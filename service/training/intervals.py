"""How sure a share is."""

from __future__ import annotations

import math
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
    p, square = hits / count, z * z / count
    middle = (p + square / 2) / (1 + square)
    half = z * math.sqrt(p * (1 - p) / count + square / (4 * count)) / (1 + square)
    return Share(share=p, low=max(0.0, middle - half), high=min(1.0, middle + half), hits=hits, count=count)


def shown(share: Share) -> str:
    """Percent, interval and counts."""
    bounds = f"{100 * share['low']:.1f} - {100 * share['high']:.1f}"
    return f"{100 * share['share']:.1f} % ({bounds}; {share['hits']} of {share['count']})"
