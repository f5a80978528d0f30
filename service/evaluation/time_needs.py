"""Whether labels need time: what their scores are where a clip stands still, runs backwards or is shuffled."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from service.contracts import TimeNeed
from service.evidence import Clip, Values

DIGITS = 4
_WAYS = ("score", "still", "reversed", "shuffled")


def altered(clip: Clip, random: np.random.Generator) -> Clip:
    """The clip `(T, H, W, 3)` as it is, standing still, backwards and shuffled: `(4, T, H, W, 3)`."""
    frames = len(clip)
    still = np.full(frames, (frames - 1) // 2)
    orders = np.stack([np.arange(frames), still, np.arange(frames)[::-1], _shuffled(frames, random)])
    return np.asarray(clip[orders])


def _shuffled(frames: int, random: np.random.Generator) -> np.ndarray:
    """Neither the order itself nor its reverse, where there is another one."""
    forth = np.arange(frames)
    while True:
        order = random.permutation(frames)
        if frames < 3 or not (np.array_equal(order, forth) or np.array_equal(order, forth[::-1])):
            return order


@dataclass
class TimeNeeds:
    """Scores of the first labels of clips, clip by clip."""

    found: dict[str, list[Values]] = field(default_factory=lambda: defaultdict(list))

    def add(self, label: str, scores: Values) -> None:
        """The scores `(4,)` of a label for a clip that was `altered`."""
        self.found[label].append(scores)

    def means(self, labels: tuple[str, ...]) -> tuple[TimeNeed, ...]:
        """Of each of `labels` that was the first of a clip, in their order."""
        return tuple(
            TimeNeed(
                label=label,
                clips=len(self.found[label]),
                **dict(zip(_WAYS, np.mean(self.found[label], axis=0).round(DIGITS).tolist(), strict=True)),
            )
            for label in labels
            if label in self.found
        )
