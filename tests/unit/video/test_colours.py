"""Colors of decoded pictures against the formulas of ITU-R BT.601, BT.709 and BT.2020, written down here once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from service.contracts import Resize
from service.model.preprocess import yuv420_to_rgb
from tests.unit.video.common import decode, spec

# Weights of red and blue in luma.
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 5, "bt709": 1, "bt2020": 9}  # of ISO/IEC 23091-2
# What quarters of the picture show; all of it lies inside every gamut, and no component at an end of its range.
QUARTERS = np.array([[[200, 40, 50], [60, 180, 70]], [[50, 60, 190], [150, 150, 150]]], dtype=np.uint8)
SIZE = 64
# swscale works with 8 bits between its steps, and chroma of 4:2:0 is stored once for four pixels.
TOLERANCE = 3


def yuv(rgb: NDArray[Any], matrix: str, full: bool, bits: int) -> NDArray[Any]:
    """`[..., 3]` code values of luma, blue and red difference for gamma-corrected `rgb` in 0 to 255."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = np.moveaxis(rgb / 255.0, -1, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    difference = np.stack([(blue - luma) / (2 * (1 - blue_weight)), (red - luma) / (2 * (1 - red_weight))], axis=-1)
    unit = 1 << (bits - 8)
    if full:
        top = (1 << bits) - 1
        codes = np.concatenate([luma[..., None] * top, difference * top + 128 * unit], axis=-1)
    else:
        codes = np.concatenate([(16 + 219 * luma[..., None]) * unit, (128 + 224 * difference) * unit], axis=-1)
    rounded: NDArray[Any] = np.rint(codes)
    return rounded


def picture(matrix: str, full: bool, bits: int) -> av.VideoFrame:
    """The quarters as 4:2:0 planes."""
    codes = yuv(QUARTERS, matrix, full, bits).astype("<u2" if bits > 8 else np.uint8)
    frame = av.VideoFrame(SIZE, SIZE, "yuv420p10le" if bits > 8 else "yuv420p")
    for number, plane in enumerate(frame.planes):
        half = plane.height // 2
        values = np.repeat(np.repeat(codes[..., number], half, axis=0), half, axis=1)
        rows = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8)
        rows[:, : data.shape[1]] = data
        plane.update(rows.tobytes())
    return frame


def write(
    path: Path,
    matrix: str | None,
    full: bool = False,
    bits: int = 8,
    codec: str = "libx264",
    transfer: int | None = None,
) -> Path:
    """A second of the quarters, without loss; tagged with `matrix`, or untagged BT.601 for None."""
    lossless = {
        "libx264": {"qp": "0", "x264-params": "log-level=none"},
        # One thread: with its own pool, the lossless encoder of ten bits crashes once in some hundred files.
        "libx265": {"x265-params": "lossless=1:log-level=none:pools=none:frame-threads=1"},
    }
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=8, options=lossless[codec])
        stream.width = stream.height = SIZE
        context = stream.codec_context
        context.pix_fmt = "yuv420p10le" if bits > 8 else "yuv420p"
        context.thread_count = 1
        if matrix:
            context.colorspace = TAGS[matrix]
            context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        if transfer is not None:
            context.color_trc = transfer
        for number in range(24):
            frame = picture(matrix or "bt601", full, bits)
            frame.pts = number
            if matrix:
                frame.colorspace = Colorspace(TAGS[matrix])
                frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def quarters(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The color in the middle of each quarter."""
    quarter = SIZE // 4
    return image[quarter :: 2 * quarter, quarter :: 2 * quarter].astype(np.int64)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_the_matrix_and_the_range_that_a_file_names_are_used(
    tmp_path: Path, matrix: str, full: bool, suffix: str
) -> None:
    _, clips = decode(write(tmp_path / f"a.{suffix}", matrix, full))
    assert np.abs(quarters(clips[0, 0, 0]) - QUARTERS).max() <= TOLERANCE


def test_the_wrong_matrix_would_be_noticed() -> None:
    # The distance of the two matrices on these colors is what makes the tests above able to fail.
    apart = np.abs(yuv(QUARTERS, "bt601", False, 8) - yuv(QUARTERS, "bt709", False, 8))
    assert apart.max() > 4 * TOLERANCE


def test_without_a_tag_the_matrix_is_that_of_bt601(tmp_path: Path) -> None:
    _, clips = decode(write(tmp_path / "a.mp4", None))
    assert np.abs(quarters(clips[0, 0, 0]) - QUARTERS).max() <= TOLERANCE


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_ten_bits_lose_nothing_but_the_last_two(tmp_path: Path, codec: str, full: bool) -> None:
    answer, clips = decode(write(tmp_path / "a.mp4", "bt709", full, bits=10, codec=codec))
    assert np.abs(quarters(clips[0, 0, 0]) - QUARTERS).max() <= TOLERANCE
    assert answer.warnings == ()


@pytest.mark.parametrize(
    ("transfer", "name"), [(ColorTrc.SMPTE2084, "PQ"), (ColorTrc.ARIB_STD_B67, "HLG")], ids=["PQ", "HLG"]
)
def test_high_dynamic_range_is_named_and_its_code_values_are_kept(tmp_path: Path, transfer: int, name: str) -> None:
    path = write(tmp_path / "a.mp4", "bt2020", bits=10, codec="libx265", transfer=transfer)
    answer, clips = decode(path)
    assert [warning.code for warning in answer.warnings] == ["high_dynamic_range"]
    assert name in answer.warnings[0].detail
    assert np.abs(quarters(clips[0, 0, 0]) - QUARTERS).max() <= TOLERANCE


@pytest.mark.parametrize("resize", ["swscale_bilinear", "opencv_bilinear"])
@pytest.mark.parametrize(
    ("matrix", "full", "bits"),
    [
        ("bt601", False, 8),
        ("bt601", True, 8),
        ("bt709", False, 8),
        ("bt709", True, 10),
        ("bt2020", False, 10),
        (None, False, 8),
    ],
)
def test_clips_in_420_are_of_bt601_in_limited_range_whatever_the_file_is(
    tmp_path: Path, matrix: str | None, full: bool, bits: int, resize: Resize
) -> None:
    path = write(tmp_path / "a.mp4", matrix, full, bits)
    _, clips = decode(path, model=spec(clip_format="yuv420", resize=resize))
    assert clips.shape[-3:] == (SIZE * 3 // 2, SIZE, 1)
    rgb = yuv420_to_rgb(torch.from_numpy(clips[0, 0, 0])).numpy()
    # A level of rounding in each of two conversions is up to four levels of blue.
    assert np.abs(quarters(rgb) - QUARTERS).max() <= TOLERANCE + 2
    luma = clips[0, 0, 0].reshape(-1)[: SIZE * SIZE].reshape(SIZE, SIZE)
    assert np.abs(quarters(luma) - yuv(QUARTERS, "bt601", False, 8)[..., 0]).max() <= TOLERANCE
