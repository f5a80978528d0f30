"""From a decoded frame to the pictures the network wants: right way up, resized, cropped."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from service.contracts import ClipSpec, Mirror
from service.crop_geometry import Size, crop_corners, resized_size
from service.errors import Undecodable
from service.video.advice import CONVERT
from service.video.config import VideoLimits
from service.video.fault_report import report_fault
from service.video.frame_data import display_matrix
from service.video.orientation import Image, Orientation, orientation_of
from service.video.yuv420 import BT601, cut_planes, planes_of

# Pixels of frames that may wait for the garbage collector: 16 million are 24 MB in 4:2:0 with 8 bits. Fewer do where it
# is quick, because what was loaded is frozen, as in a process that decodes.
_UNCOLLECTED_PIXELS, _UNCOLLECTED_WHERE_QUICK = 1 << 24, 1 << 22

# Matrices of ISO/IEC 23091-2 that FFmpeg's scaler does not know, and the number that says nothing.
_MATRICES = {8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "SMPTE ST 2085", 14: "ICtCp", 15: "IPT-C2"}
_UNSPECIFIED = 2

# OpenCV's fixed-point weights: 11 bits each for columns and rows, 4 of the 22 dropped between the two passes.
_WEIGHT_BITS = 11


def display_size(width: int, height: int, pixel_aspect: Fraction, orientation: Orientation) -> Size:
    """(width, height) in square pixels of the displayed picture."""
    stretched = max(1, round(width * pixel_aspect))
    return (height, stretched) if orientation.transpose else (stretched, height)


def _bilinear_taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """Lower and upper neighbor and the upper's weight for each target pixel; pixel centers lie at half integers."""
    centers = (np.arange(target) + 0.5) * (source / target) - 0.5
    lower = np.floor(centers).astype(np.intp)
    weight = np.where(lower < 0, 0.0, centers - lower)
    lower = np.clip(lower, 0, source - 1)
    return lower, np.minimum(lower + 1, source - 1), np.rint(weight * (1 << _WEIGHT_BITS)).astype(np.int32)


def opencv_bilinear(image: Image, width: int, height: int) -> Image:
    """Bilinear resize without antialiasing, in the fixed-point arithmetic of OpenCV's INTER_LINEAR.

    Args:
        image: uint8 `[h, w, 3]`.
        width: of the result, pixels.
        height: of the result, pixels.

    Returns:
        uint8 `[height, width, 3]`.
    """
    one = 1 << _WEIGHT_BITS
    left, right, x_weight = _bilinear_taps(image.shape[1], width)
    upper, lower, y_weight = _bilinear_taps(image.shape[0], height)
    # Only rows that are used are widened to 32 bits: a large picture has many more.
    rows, where = np.unique(np.concatenate((upper, lower)), return_inverse=True)
    used = image[rows].astype(np.int32)
    x_weight = x_weight[None, :, None]
    across = (used[:, left] * (one - x_weight) + used[:, right] * x_weight) >> 4
    y_weight = y_weight[:, None, None]
    top, bottom = across[where[:height]], across[where[height:]]
    blended = ((top * (one - y_weight)) >> 16) + ((bottom * y_weight) >> 16)
    return ((blended + 2) >> 2).clip(0, 255).astype(np.uint8)


class Resizer:
    """Turns the frames of one stream into crops of the model's size.

    Attributes:
        display_width, display_height: of the latest frame as players show it, in pixels.
        rotation: degrees counter-clockwise that the latest frame asks to be turned, 0 to 359.
        mirrored: how the latest frame asks to be mirrored before it is turned; None for not at all.
        transfer: how the latest frame's code values stand for light, a number of ISO/IEC 23091-2.
        unknown_matrix: name of a color matrix that could not be converted; empty where all could be.
        unreadable: why the orientation of a frame could not be read; empty where it could be.
    """

    def __init__(
        self,
        spec: ClipSpec,
        crops: int,
        pixel_aspect: Fraction,
        limits: VideoLimits,
        orientations: Sequence[tuple[int, Orientation]] = (),
    ) -> None:
        """`orientations` are those that hold from a timestamp on, ascending, whatever the frames say themselves."""
        self._spec = spec
        self._crops = crops
        self._pixel_aspect = pixel_aspect
        self._limits = limits
        self._orientations = orientations
        self._reformatter = VideoReformatter()
        self._uncollected = 0
        self.display_width = self.display_height = self.rotation = self.transfer = 0
        self.mirrored: Mirror | None = None
        self.unknown_matrix = self.unreadable = ""

    def crops(self, frame: VideoFrame) -> list[Image]:
        """The frame's crops, uint8 `[H, W, 3]` in RGB or `[3H/2, W, 1]` in 4:2:0 each.

        Raises:
            Undecodable: the frame's colors cannot be converted.
            PixelLimit: resized, a very long and narrow picture would have more than `max_pixels`.
        """
        self._collect(frame)
        orientation = self._orientation(frame)
        self.rotation, self.mirrored = orientation.rotation, orientation.mirrored
        self.transfer = frame.color_trc
        self.display_width, self.display_height = display_size(
            frame.width, frame.height, self._pixel_aspect, orientation
        )
        width, height = resized_size(self.display_width, self.display_height, self._spec)
        self._limits.check_pixels(width, height)
        coded = (height, width) if orientation.transpose else (width, height)
        corners = crop_corners(width, height, self._spec, self._crops)
        if self._spec.clip_format == "yuv420":
            planes = [orientation.apply(plane) for plane in self._resized_planes(frame, *coded)]
            return [cut_planes(planes, left, top, self._spec.width, self._spec.height) for left, top in corners]
        image = orientation.apply(self._resize(frame, *coded))
        return [image[top : top + self._spec.height, left : left + self._spec.width] for left, top in corners]

    def _orientation(self, frame: VideoFrame) -> Orientation:
        if self._orientations:
            begun = [turn for since, turn in self._orientations if frame.pts is None or since <= frame.pts]
            return begun[-1] if begun else self._orientations[0][1]
        try:
            matrix = display_matrix(frame)
            return Orientation() if matrix is None else orientation_of(np.frombuffer(matrix, dtype=np.int32))
        except (ValueError, LookupError, TypeError) as error:
            # The picture is good whatever hangs on it. What is written here goes into the log.
            if not self.unreadable:
                report_fault(error)
            self.unreadable = f"{type(error).__name__}: {error}"
            return Orientation()

    def _collect(self, frame: VideoFrame) -> None:
        # A frame whose side data was looked at refers to itself, so that only the collector frees its picture. It comes
        # after hundreds of objects, which is too late for large ones.
        self._uncollected += frame.width * frame.height
        if self._uncollected <= _UNCOLLECTED_WHERE_QUICK:
            return
        if self._collecting_is_quick or self._uncollected > _UNCOLLECTED_PIXELS:
            # What is in use now is old after that, and only a full collection finds it later: a stream that goes on for
            # hours would keep a picture or two of each.
            gc.collect(2 if self._collecting_is_quick else 1)
            self._uncollected = 0

    @cached_property
    def _collecting_is_quick(self) -> bool:
        # Asked once: Python walks over all that is frozen to count it, which takes as long as some frames.
        return gc.get_freeze_count() > 0

    def _resize(self, frame: VideoFrame, width: int, height: int) -> Image:
        if self._spec.resize == "opencv_bilinear":
            return opencv_bilinear(self._rgb(frame, frame.width, frame.height), width, height)
        return self._rgb(frame, width, height)

    def _resized_planes(self, frame: VideoFrame, width: int, height: int) -> list[Image]:
        if self._spec.resize == "opencv_bilinear":
            frame = VideoFrame.from_ndarray(self._resize(frame, width, height), format="rgb24")
        return planes_of(self._converted(frame, width, height, "yuv420p", **BT601))

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> Image:
        return np.asarray(self._converted(frame, width, height, "rgb24").to_ndarray(), dtype=np.uint8)

    def _converted(self, frame: VideoFrame, width: int, height: int, pixels: str, **colors: int) -> VideoFrame:
        try:
            return self._reformat(frame, width, height, pixels, colors)
        except MemoryError:
            raise
        except (FFmpegError, ValueError) as error:
            if frame.colorspace == _UNSPECIFIED:
                raise _unconvertible(frame, pixels, error) from error
        self.unknown_matrix = _MATRICES.get(frame.colorspace, f"number {frame.colorspace} of ISO/IEC 23091-2")
        frame.colorspace = _UNSPECIFIED
        return self._converted(frame, width, height, pixels, **colors)

    def _reformat(self, frame: VideoFrame, width: int, height: int, pixels: str, colors: dict[str, int]) -> VideoFrame:
        # threads=1: the default starts one scaling thread per core in every decode process.
        return self._reformatter.reformat(
            frame, width, height, format=pixels, interpolation="BILINEAR", threads=1, **colors
        )


def _unconvertible(frame: VideoFrame, pixels: str, error: Exception) -> Undecodable:
    name = frame.format.name
    return Undecodable(f"A picture in {name} cannot be converted to {pixels} ({error}). {CONVERT}.", actual=name)
