"""How much of a shared resource one caller may hold.

The rule is that of dynamic thresholds, by which switches share their buffers (Choudhury and Hahne, 1998): a caller that
holds nothing may take all that is free; one that holds something may take more as long as it then holds at most a share
of its own part and the free rest together. With a share of 3/4 a caller alone gets three quarters, two get three
sevenths each, and n get 3 / (3n + 1) each: however many callers take all they can, a part is left for the next one, and
their number need not be known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FairShare:
    """The rule with one `share`, above 0; 1 is no rule."""

    share: float

    def allows(self, held: float, free: float, more: float) -> bool:
        """Whether a caller that holds `held` may take `more` of the `free` rest."""
        if more > free:
            return False
        return held == 0 or self.share >= 1 or held + more <= self.share * (held + free)

    def most(self, held: float, free: float) -> int:
        """The most that a caller may hold which holds `held` now, as far as whole ones go."""
        return int(self.share * (held + free)) if self.share < 1 else int(held + free)

    @property
    def per_free(self) -> float:
        """The same as a factor: what may be held for each one that stays free; -1 where there is no rule."""
        return -1.0 if self.share >= 1 else self.share / (1 - self.share)
