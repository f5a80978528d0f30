"""Streams that are out of the ordinary, and headers that lie: which frames come out, and when."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from service.contracts import JobRequest
from service.errors import ContainerNotAllowed, DurationLimit
from testing.videos import number_of, numbered, remux, write_video
from tests.unit.video.common import decode, limits, spec

WANTED = [4 * slot for slot in range(8)]  # frames of a 30 fps video in one window from its start


def numbers(clip: NDArray[np.uint8]) -> list[int]:
    return [number_of(image) for image in clip]


def patched(path: Path, changes: dict[bytes, tuple[int, bytes]]) -> Path:
    """Overwrite bytes in the first box of each name, at an offset from the end of the name."""
    data = bytearray(path.read_bytes())
    for name, (offset, value) in changes.items():
        place = data.index(name) + len(name) + offset
        data[place : place + len(value)] = value
    path.write_bytes(bytes(data))
    return path


def grown(path: Path, box: bytes, parents: tuple[bytes, ...], content: bytes) -> Path:
    """Replace the content of the first box of that name, and correct the sizes of the boxes around it."""
    data = bytearray(path.read_bytes())
    start = data.index(box) - 4
    (size,) = struct.unpack_from(">I", data, start)
    more = 8 + len(content) - size
    for parent in parents:
        place = data.index(parent) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + more)
    data[start : start + size] = struct.pack(">I", 8 + len(content)) + box + content
    path.write_bytes(bytes(data))
    return path


def test_frames_before_the_start_of_an_edit_are_not_presented(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", frames=90, gop=12)
    edited = remux(plain, tmp_path / "edited.mp4", offset_s=-0.5)
    answer, clips = decode(edited, JobRequest(windows=1))
    assert numbers(clips[0, 0]) == [15 + number for number in WANTED]
    assert answer.windows[0].times_s[0] == 0
    assert answer.video.duration_s == pytest.approx(2.5, abs=0.002)


def test_an_edit_list_that_joins_two_parts_is_followed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=120, gop=10, b_frames=0)
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        second = round(1 / base)
    film = int.from_bytes(path.read_bytes()[path.read_bytes().index(b"mvhd") + 16 :][:4], "big")
    edits = b"".join(struct.pack(">IIHH", film, start * second, 1, 0) for start in (0, 2))
    grown(path, b"elst", (b"moov", b"trak", b"edts"), struct.pack(">II", 0, 2) + edits)
    answer, clips = decode(path, JobRequest(windows=1), spec(frames=8, frame_step=7))
    # The second half shows what comes after two seconds: frame 28 + 7 lies there.
    expected = [number if number < 30 else number + 30 for number in range(0, 56, 7)]
    assert numbers(clips[0, 0]) == expected
    assert answer.video.duration_s == pytest.approx(2.0, abs=0.04)


def stripes(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Two fields of one picture: bright in even rows, dark in odd ones."""
    image = np.full((height, width, 3), 40, dtype=np.uint8)
    image[::2] = 200 - 4 * (number % 8)
    return image


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_interlaced_pictures_come_out_with_both_fields_woven(tmp_path: Path, suffix: str) -> None:
    interlaced = {"x264-params": "interlaced=1:qp=4"}
    path = write_video(tmp_path / f"a.{suffix}", frames=60, draw=stripes, codec_options=interlaced)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    answer, clips = decode(path, JobRequest(windows=1))
    for slot, image in enumerate(clips[0, 0].astype(int)):
        assert abs(image[::2, 8:-8].mean() - (200 - 4 * (WANTED[slot] % 8))) < 6
        assert abs(image[1::2, 8:-8].mean() - 40) < 6
    assert answer.windows[0].times_s == pytest.approx([number / 30 for number in WANTED], abs=0.001)


def test_each_frame_is_resized_from_its_own_size_where_the_size_changes(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.ts", frames=16, size=(64, 64))
    large = write_video(tmp_path / "large.mp4", frames=60, size=(160, 96), draw=lambda n, w, h: numbered(n + 16, w, h))
    later = remux(large, tmp_path / "later.ts", offset_s=16 / 30)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.read_bytes() + later.read_bytes())
    answer, clips = decode(joined, JobRequest(windows=1, crops=3))
    # The last crop is the middle one. The pattern of a wide picture reaches beyond it, so its pixels are compared.
    assert clips.shape[1:3] == (3, 8)
    assert numbers(clips[0, 2][:4]) == WANTED[:4]
    wide = numbered(WANTED[6], 160, 96)
    middle = wide[:, (160 - 96) // 2 :][:, :96]
    center = clips[0, 2, 6].astype(int)
    blocks = middle[6::12, 6::12, 0].astype(int)
    found = center[4::8, 4::8, 0][: blocks.shape[0], : blocks.shape[1]]
    assert np.abs(found - blocks).mean() < 20
    assert (answer.video.width, answer.video.height) == (160, 96)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("odd.webm", {"codec": "libvpx-vp9"}, (67, 65)),
        ("even.mp4", {}, (66, 70)),
        ("odd.avi", {"codec": "mpeg4"}, (67, 65)),
        ("odd.mkv", {"codec": "mjpeg"}, (65, 67)),
    ],
)
def test_odd_sizes_are_decoded_whole(tmp_path: Path, name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    answer, clips = decode(write_video(tmp_path / name, size=size, **options), JobRequest(windows=1))
    assert (answer.video.width, answer.video.height) == size
    assert numbers(clips[0, 0]) == WANTED


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_the_pixel_aspect_of_every_container_gives_the_displayed_size(
    tmp_path: Path, aspect: Fraction, suffix: str
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", size=(96, 64), pixel_aspect=aspect)
    answer, _ = decode(path)
    assert (answer.video.width, answer.video.height) == (round(96 * aspect), 64)


def without_timestamps(path: Path, every: int) -> int:
    """Take the timestamp from every `every`-th picture of a transport stream; how many lost theirs."""
    data = bytearray(path.read_bytes())
    seen = lost = 0
    for packet in range(0, len(data), 188):
        start = packet + 4 + (1 + data[packet + 4] if data[packet + 3] & 0x20 else 0)
        if not data[packet + 1] & 0x40 or data[start : start + 3] != b"\0\0\1" or data[start + 3] != 0xE0:
            continue
        seen += 1
        if seen % every == 0:
            length = data[start + 8]
            data[start + 7] &= 0x3F
            data[start + 9 : start + 9 + length] = b"\xff" * length
            lost += 1
    path.write_bytes(bytes(data))
    return lost


@pytest.mark.parametrize("b_frames", [0, 2])
def test_pictures_without_timestamps_keep_their_places(tmp_path: Path, b_frames: int) -> None:
    path = write_video(tmp_path / "a.ts", frames=90, b_frames=b_frames)
    assert without_timestamps(path, every=3) == 30
    _, clips = decode(path, JobRequest(windows=1))
    assert np.abs(np.array(numbers(clips[0, 0])) - WANTED).max() <= 1


def test_a_header_that_promises_more_than_the_file_holds_is_corrected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60)
    long = struct.pack(">I", 0x00FFFFFF)
    patched(path, {b"mvhd": (16, long), b"tkhd": (20, long), b"mdhd": (16, long)})
    answer, clips = decode(path, JobRequest(windows=1))
    assert answer.video.duration_s == pytest.approx(2.0, abs=0.001)
    assert numbers(clips[0, 0]) == WANTED


def test_a_header_that_promises_less_than_the_file_holds_is_corrected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=90)
    patched(path, {b"mdhd": (16, struct.pack(">I", 1))})
    answer, clips = decode(path, JobRequest(start=1.5, windows=1))
    assert answer.video.duration_s == pytest.approx(3.0, abs=0.001)
    assert numbers(clips[0, 0]) == [45 + number for number in WANTED]


def test_the_duration_that_is_limited_is_the_observed_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=90)
    short = struct.pack(">I", 1)
    patched(path, {b"mvhd": (16, short), b"tkhd": (20, short), b"mdhd": (16, short)})
    with pytest.raises(DurationLimit) as caught:
        decode(path, bounds=limits(max_duration_s=2.5))
    assert caught.value.actual == pytest.approx(3.0, abs=0.001)


@pytest.mark.parametrize("count", [1, 5000])
def test_a_count_of_frames_that_lies_changes_nothing(tmp_path: Path, count: int) -> None:
    path = write_video(tmp_path / "a.avi", frames=60, codec="mjpeg")
    # Of the main header the fifth field, of the stream's the ninth: total frames, length.
    patched(path, {b"avih": (4 + 16, struct.pack("<I", count)), b"strh": (4 + 32, struct.pack("<I", count))})
    answer, clips = decode(path, JobRequest(windows=1))
    assert numbers(clips[0, 0]) == WANTED
    assert answer.video.duration_s == pytest.approx(2.0, abs=0.05)


def test_pictures_of_an_animation_stay_as_long_as_each_says(tmp_path: Path) -> None:
    delays = [Fraction(centiseconds, 100) for centiseconds in (4, 20, 6, 50, 10, 10, 30, 2, 40, 20)]
    starts = [sum(delays[:number], Fraction(0)) for number in range(len(delays))]
    path = write_video(tmp_path / "a.gif", frames=10, codec="gif", times=starts)
    _, clips = decode(path, JobRequest(windows=1), spec(frame_step=5))
    moments = [slot * 5 / 30 for slot in range(8)]
    assert numbers(clips[0, 0]) == [max(n for n in range(10) if starts[n] <= moment) for moment in moments]


def test_a_webp_animation_is_a_container_that_is_not_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x3f\0\0\x3f\0\0ANIM\x06\0\0\0\0\0\0\0\0\0")
    with pytest.raises(ContainerNotAllowed, match="WebP"):
        decode(path)
