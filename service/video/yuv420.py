"""Pictures in 4:2:0, as planes and as the bytes that a model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

BT601 = {"dst_colorspace": Colorspace.ITU601.value, "dst_color_range": ColorRange.MPEG.value}
"""Matrix and range of all clips in 4:2:0; pictures in another one are converted."""


def planes_of(frame: VideoFrame) -> list[Plane]:
    """Y `[H, W]`, U and V `[H/2, W/2]` of a frame in yuv420p: views of its memory, without the ends of its lines."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


def cut_planes(planes: Sequence[Plane], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    """A part of a picture, all four numbers even: uint8 `[3H/2, W, 1]`, its Y, then its U, then its V."""
    packed = np.empty(width * height * 3 // 2, np.uint8)
    at = 0
    for plane, by in zip(planes, (1, 2, 2), strict=True):
        part = plane[top // by : (top + height) // by, left // by : (left + width) // by]
        packed[at : at + part.size].reshape(part.shape)[:] = part
        at += part.size
    return packed.reshape(height * 3 // 2, width, 1)
