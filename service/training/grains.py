"""What is generated is generated a grain at a time, and serves several steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Grains(Generic[Made]):
    """The grains of a generated source: `size` clips each, made anew every `reuse` steps."""

    def __init__(self, size: int, reuse: int, make: Callable[[int, int, range], Made]) -> None:
        """`make` is called with the number of the round, that of the grain, and the grains of the same part."""
        self._size, self._reuse, self._make = size, reuse, make
        self._round: tuple[int, dict[int, Made]] = (-1, {})

    def of(self, step: int, first: int, last: int) -> Iterator[tuple[int, Made]]:
        """The grains that the clips from `first` to `last` of a step consist of, with their numbers.

        Raises ValueError where a part does not fall on whole grains.
        """
        if first % self._size or last % self._size:
            raise ValueError(f"parts of a generated batch must be multiples of {self._size}, not {first} .. {last}")
        turn = step // self._reuse
        if self._round[0] != turn:
            self._round = (turn, {})
        made = self._round[1]
        grains = range(first // self._size, last // self._size)
        for grain in grains:
            if grain not in made:
                made[grain] = self._make(turn, grain, grains)
            yield grain, made[grain]
