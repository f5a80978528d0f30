"""Sizes to try: the powers of two below the largest, and the largest."""

from __future__ import annotations


def doublings(largest: int) -> list[int]:
    """1, 2, 4 … and `largest`, which is 1 or more."""
    return [*(1 << power for power in range((largest - 1).bit_length())), largest]
