"""How a coded picture is turned and mirrored for display."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.contracts import Mirror

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Orientation:
    """How to turn the coded picture into the displayed one: first transpose, then mirror.

    Attributes:
        rotation: degrees counter-clockwise, 0 to 359, as the file states them.
        mirrored: how the file asks to mirror the picture before it is turned; None for not at all.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    rotation: int = 0
    mirrored: Mirror | None = None

    def apply(self, image: Image) -> Image:
        """The displayed view of a coded `[H, W, 3]` picture, or of an `[H, W]` plane (no copy)."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of(matrix: NDArray[np.int32]) -> Orientation:
    """What a display matrix, int32 [9], asks for, rounded to quarter turns and mirrorings.

    The matrix maps a coded point (x, y) to the displayed (a x + c y, b x + d y), y pointing down.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    mirrored: Mirror | None = None
    right, down = a, b
    if a * d - b * c < 0:
        # Upside down by a mirror alone is named so; any other mirroring is one of left and right, and then a turn.
        mirrored = "vertical" if a > abs(b) else "horizontal"
        right, down = (a, b) if mirrored == "vertical" else (-a, -b)
    rotation = round(-math.degrees(math.atan2(down, right))) % 360
    transpose = abs(b) + abs(c) > abs(a) + abs(d)
    across, along = (c, b) if transpose else (a, d)
    return Orientation(transpose, mirror_x=across < 0, mirror_y=along < 0, rotation=rotation, mirrored=mirrored)
