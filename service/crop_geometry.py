"""Which part of a picture the network sees: pure arithmetic of sizes, for the decoder and for answers alike."""

from __future__ import annotations

from service.contracts import ClipSpec, Region

Size = tuple[int, int]

DIGITS = 6


def regions(width: int, height: int, spec: ClipSpec, crops: int) -> list[Region]:
    """What each crop shows of a picture of a display size in pixels, in the order of `crop_corners`."""
    across, down = resized_size(width, height, spec)
    return [
        Region(
            left=round(left / across, DIGITS),
            top=round(top / down, DIGITS),
            width=round(spec.width / across, DIGITS),
            height=round(spec.height / down, DIGITS),
        )
        for left, top in crop_corners(across, down, spec, crops)
    ]


def resized_size(width: int, height: int, spec: ClipSpec) -> Size:
    """(width, height) after resizing: the short side is `resize_short_side`, the long one is rounded down.

    Where that would not cover the model's `height` x `width`, the picture becomes just large enough to do so. A model
    that is shown the whole picture gets it squeezed to its size. In 4:2:0 all sizes are even.
    """
    if spec.framing == "whole":
        return spec.width, spec.height
    width, height = _covering(width, height, spec)
    return (width & ~1, height & ~1) if spec.clip_format == "yuv420" else (width, height)


def _covering(width: int, height: int, spec: ClipSpec) -> Size:
    short = spec.resize_short_side
    if width <= height:
        target = (short, int(short * height / width))
    else:
        target = (int(short * width / height), short)
    if target[0] >= spec.width and target[1] >= spec.height:
        return target
    scale = max(spec.width / width, spec.height / height)
    return max(spec.width, int(width * scale)), max(spec.height, int(height * scale))


def crop_corners(width: int, height: int, spec: ClipSpec, crops: int) -> list[tuple[int, int]]:
    """(left, top) of each crop of the model's size.

    One crop is the center. Three lie along the long side at its start, its end and its middle, in this order; with an
    odd remainder the second ends one pixel before the edge, as in the official test protocol. In 4:2:0 corners are
    even, as its blocks are, and the second may end two pixels before the edge.
    """
    grid = 2 if spec.clip_format == "yuv420" else 1
    left, top = (grid * round(rest / 2 / grid) for rest in (width - spec.width, height - spec.height))
    if crops == 1:
        return [(left, top)]
    if width >= height:
        step = (width - spec.width) // 2 // grid * grid
        return [(offset, top) for offset in (0, 2 * step, step)]
    step = (height - spec.height) // 2 // grid * grid
    return [(left, offset) for offset in (0, 2 * step, step)]
