"""Clips that are the same on every machine, and what a network says of them in float32.

An export keeps the logits, so that a machine that computes in coarser arithmetic can tell how far it moves them before
it serves anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

PARAMETER = "reference_logits"
COUNT = 4
"""Clips: few, because the largest networks take seconds for each while a worker starts."""
RECIPE = 1
"""Number of the way in which the clips are made; logits of another way are those of other clips."""
BOUND_OF_SPAN = 0.05
"""Drift that an export allows, of the distance between its highest and its lowest reference logit."""

_SEED = 20
_BLURS = 3


@dataclass(frozen=True, slots=True)
class ReferenceLogits:
    """The float32 logits `[clips, K]` of the reference clips, and how far other arithmetic may move any of them."""

    recipe: int
    bound: float
    logits: list[list[float]]

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32]) -> ReferenceLogits:
        """Of logits `[clips, K]` that were computed now, with the bound that follows from them; five digits of each."""
        bound = BOUND_OF_SPAN * float(logits.max() - logits.min())
        rounded = [[float(f"{value:.5g}") for value in row] for row in logits.tolist()]
        return cls(RECIPE, float(f"{bound:.3g}"), rounded)

    def drift(self, logits: npt.NDArray[np.float32]) -> float:
        """How far the logits `[clips, K]` of the same clips lie from these: the largest difference."""
        return float(np.abs(logits - np.array(self.logits, np.float32)).max())

    @classmethod
    def parse(cls, entry: Any, labels: int) -> ReferenceLogits | None:
        """From what `to_dict` gave; None for clips made as another release makes them.

        Raises ValueError where it is no such entry, or not of a model of so many labels.
        """
        try:
            if entry["recipe"] != RECIPE:
                return None
            found = cls(RECIPE, float(entry["bound"]), [[float(x) for x in row] for row in entry["logits"]])
        except (TypeError, KeyError) as error:
            raise ValueError("no recipe, bound and logits") from error
        wide = all(len(row) == labels and np.isfinite(row).all() for row in found.logits)
        if not (0 <= found.bound < np.inf and len(found.logits) == COUNT and wide):
            raise ValueError(f"no bound of at least 0, or not {COUNT} rows of {labels} logits")
        return found

    def to_dict(self) -> dict[str, object]:
        """As JSON keeps it."""
        return asdict(self)


def reference_clips(clip_shape: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Clips uint8 `[COUNT, *clip_shape]`: blurred textures that move, with a cut in every second clip.

    Made of integers by the generator that NumPy has frozen, so that no bit of them differs anywhere.
    """
    frames, height, width, channels = clip_shape
    random = np.random.RandomState(_SEED)
    clips = np.empty((COUNT, *clip_shape), np.uint8)
    for at in range(COUNT):
        cut = frames // 2 if at % 2 else frames
        for first, end in pairwise(sorted({0, cut, frames})):
            texture = _texture(random, height, width, channels)
            step = random.randint(-2, 3, size=2)
            for frame in range(first, end):
                clips[at, frame] = np.roll(texture, tuple(frame * step), axis=(0, 1))
    return clips


def _texture(random: np.random.RandomState, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Noise of two grains, blurred, and stretched over the values of a byte."""
    rows, columns = -(-height // 8), -(-width // 8)
    coarse = random.randint(0, 1024, size=(rows, columns, channels)).repeat(8, axis=0).repeat(8, axis=1)
    picture = coarse[:height, :width] + random.randint(0, 512, size=(height, width, channels))
    for _ in range(_BLURS):
        for axis in (0, 1):
            picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) // 4
    low, high = picture.min(), picture.max()
    stretched: npt.NDArray[np.uint8] = ((picture - low) * 255 // max(1, high - low)).astype(np.uint8)
    return stretched
