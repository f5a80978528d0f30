"""What each frame is worth to a score, estimated from few sets of the frames. Pure.

Exact Shapley values of T frames take 2^T scores (`service.evidence`). As targets of training estimates will do: many
clips with rough targets teach more than few with exact ones. The scores of the sets that were not asked are those of a
Gaussian process over the clips that sets show: two sets are as alike as they show the same frame in the same places.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from service.evidence import Kept, Values, shapley, shown, subsets

_PLACES = 3.0
"""Places in which the clips of two sets differ, for their scores to be related by 1 / e."""
_NOISE = 1e-3


def drawn_sets(frames: int, pairs: int, random: np.random.Generator) -> Kept:
    """Sets to score beside the empty and the whole one, `(M, T)`.

    M is `2 frames + 2 pairs`: each frame alone, all but each, and pairs of a random set and its complement, of a size
    drawn by its weight in Shapley values. Sets of the pairs may occur twice. Raises ValueError for fewer than 4 frames,
    of which no set is left to draw.
    """
    if frames < 4:
        raise ValueError(f"sets are drawn of at least 4 frames, not of {frames}")
    one = np.eye(frames, dtype=bool)
    sizes = np.arange(2, frames - 1)
    weight = 1 / (sizes * (frames - sizes))
    size = random.choice(sizes, pairs, p=weight / weight.sum())
    drawn = random.random((pairs, frames)).argsort(1) < size[:, None]
    return np.concatenate([one, ~one, drawn, ~drawn])


def estimated_values(kept: Kept, scores: Values, still: float, whole: float) -> Values:
    """Shapley values `(T,)`, estimated from the `scores` `(M,)` of sets; they sum to `whole` less `still`.

    `still` is the score of the empty set and `whole` that of all frames. Exact where `kept` has all other sets.
    """
    frames = kept.shape[1]
    number = kept @ (1 << np.arange(frames))
    asked, first = np.unique(np.concatenate([[0, (1 << frames) - 1], number]), return_index=True)
    known = np.concatenate([[still, whole], scores])[first]
    alike = _alike(frames)
    mean = known.mean()
    weights = np.linalg.solve(alike[np.ix_(asked, asked)] + _NOISE * np.eye(len(asked)), known - mean)
    every = mean + alike[:, asked] @ weights
    every[asked] = known
    return shapley(every)


@lru_cache(maxsize=4)
def _alike(frames: int) -> NDArray[np.float64]:
    sights = shown(subsets(frames))
    differing = (sights[:, None] != sights).sum(2)
    return np.asarray(np.exp(-differing / _PLACES))
