"""Pictures that are turned by what the container, the stream or a camera's EXIF block says."""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.sidedata.sidedata import Type

from service.contracts import JobRequest
from service.video.orientation import orientation_of
from service.video.sei_orientation import display_orientation
from testing.videos import quadrant_colors, quadrants, write_video
from tests.unit.video.common import decode

ONE_UP = JobRequest(windows="all")


def exif(orientation: int) -> bytes:
    """A segment of a JPEG file with an EXIF block that says which way up the picture is."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block


def of_a_camera(folder: Path, suffix: str, orientation: int) -> Path:
    """A motion JPEG whose pictures carry EXIF blocks, as a time-lapse of photographs does."""
    plain = write_video(folder / "plain.avi", 60, codec="mjpeg", size=(96, 64), draw=quadrants)
    path = folder / f"camera.{suffix}"
    with av.open(str(plain)) as given, av.open(str(path), "w") as taken:
        stream = given.streams.video[0]
        copy = taken.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.size:
                data = bytes(packet)
                turned: Any = Packet(data[:2] + exif(orientation) + data[2:])
                turned.pts, turned.dts, turned.time_base = packet.pts, packet.dts, packet.time_base
                turned.stream, turned.is_keyframe = copy, True
                taken.mux(turned)
    return path


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mov"])
@pytest.mark.parametrize(
    ("orientation", "colors", "rotation", "mirrored"),
    [(1, "RGBW", 0, None), (2, "GRWB", 0, "horizontal"), (3, "WBGR", 180, None), (6, "BRWG", 270, None)],
)
def test_pictures_with_exif_are_shown_the_way_up_that_it_says(
    tmp_path: Path, suffix: str, orientation: int, colors: str, rotation: int, mirrored: str | None
) -> None:
    answer, clips = decode(of_a_camera(tmp_path, suffix, orientation), JobRequest(windows=1))
    assert {quadrant_colors(image) for image in clips[0, 0]} == {colors}
    assert (answer.video.rotation, answer.video.mirrored) == (rotation, mirrored)
    assert not answer.warnings


def test_side_data_that_cannot_be_read_leaves_the_picture_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As PyAV itself does with a kind that it has no name for.
    monkeypatch.setattr(Type, "_missing_", classmethod(lambda cls, number: None))
    answer, clips = decode(of_a_camera(tmp_path, "avi", 1), JobRequest(windows=1))
    assert quadrant_colors(clips[0, 0, 0]) == "RGBW"
    assert [warning.code for warning in answer.warnings] == ["metadata_unreadable"]
    written = capsys.readouterr().err
    assert "Traceback" in written
    assert written.count("ValueError: 31 is not a valid Type") == 1


def message(degrees: int, *, across: bool = False, down: bool = False, codec: str = "h264") -> bytes:
    """A unit that asks for an orientation until further notice, and its length in front of it.

    Of H.264 (D.1.27), or of HEVC (D.2.17).
    """
    last = 0b01001 if codec == "h264" else 0b11000
    bits = across << 22 | down << 21 | round(degrees / 360 * 65536) << 5 | last
    unit = (b"\x06" if codec == "h264" else b"\x4e\x01") + b"\x2f\x03" + bits.to_bytes(3, "big") + b"\x80"
    return struct.pack(">I", len(unit)) + unit


@cache
def plain(codec: str) -> bytes:
    """An MP4 of two groups of 30 pictures that says nothing of its orientation."""
    options: dict[str, Any] = {"b_frames": 0}
    if codec == "hevc":
        params = "log-level=none:bframes=0:keyint=30:min-keyint=30"
        options = {"codec": "libx265", "codec_options": {"x265-params": params}}
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "plain.mp4", 60, size=(96, 64), draw=quadrants, gop=30, **options)
        return path.read_bytes()


def by_message(
    folder: Path,
    suffix: str,
    said: bytes,
    turn: tuple[int, bool, bool] | None = None,
    codec: str = "h264",
    at: int = 0,
) -> Path:
    """A stream whose packet `at` carries a message, in a container with a display matrix or none."""
    path = folder / f"message.{suffix}"
    with av.open(BytesIO(plain(codec)), mode="r") as given, av.open(str(path), "w") as taken:
        stream = given.streams.video[0]
        copy = taken.add_stream_from_template(stream)
        if turn:
            copy.set_display_rotation(*turn)
        for number, packet in enumerate(given.demux(stream)):
            if packet.size:
                changed: Any = Packet((said if number == at else b"") + bytes(packet))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.stream, changed.is_keyframe = copy, packet.is_keyframe
                taken.mux(changed)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize(
    ("degrees", "colors"),
    [(90, "GWRB"), (270, "BRWG"), (180, "WBGR")],
)
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_orientation_that_the_stream_asks_for_holds_for_all_frames(
    tmp_path: Path, suffix: str, degrees: int, colors: str, codec: str
) -> None:
    answer, clips = decode(by_message(tmp_path, suffix, message(degrees, codec=codec), codec=codec), ONE_UP)
    assert {quadrant_colors(image) for clip in clips[:, 0] for image in clip} == {colors}
    assert answer.video.rotation == degrees


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_orientation_holds_where_decoding_starts_behind_the_picture_that_asks_for_it(
    tmp_path: Path, codec: str
) -> None:
    path = by_message(tmp_path, "mp4", message(90, codec=codec), codec=codec)
    answer, clips = decode(path, JobRequest(windows=1, start=1.2))
    assert {quadrant_colors(image) for image in clips[0, 0]} == {"GWRB"}
    assert answer.video.frames_decoded < 40


def test_hevc_that_asks_for_an_orientation_later_is_turned_from_there_on(tmp_path: Path) -> None:
    path = by_message(tmp_path, "mp4", message(90, codec="hevc"), codec="hevc", at=30)
    answer, clips = decode(path, ONE_UP)
    times = [time for window in answer.windows for time in window.times_s]
    colors = [quadrant_colors(image) for clip in clips[:, 0] for image in clip]
    _, late = decode(path, JobRequest(windows=1, start=1.2))
    assert colors == ["RGBW" if time < 0.99 else "GWRB" for time in times]
    assert {quadrant_colors(image) for image in late[0, 0]} == {"GWRB"}


def test_the_container_has_the_last_word_on_orientation(tmp_path: Path) -> None:
    answer, clips = decode(by_message(tmp_path, "mp4", message(90), turn=(180, False, False)), ONE_UP)
    assert {quadrant_colors(image) for clip in clips[:, 0] for image in clip} == {"WBGR"}
    assert answer.video.rotation == 180


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_matrix_of_a_message_is_the_one_that_ffmpeg_makes_of_it(
    tmp_path: Path, degrees: int, across: bool, down: bool, codec: str
) -> None:
    path = by_message(tmp_path, "mkv", message(degrees, across=across, down=down, codec=codec), codec=codec)
    with av.open(str(path)) as container:
        (first, *_) = (packet for packet in container.demux(video=0) if packet.size)
        found = display_orientation(bytes(first), codec)
    with av.open(str(path)) as container:
        matrix = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    assert found is not None
    assert found[:8].tolist() == np.frombuffer(bytes(matrix), np.int32)[:8].tolist()  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("h264", b""),
        ("h264", b"\0\0\0"),
        ("h264", b"\0\0\0\2\6\x2f"),
        ("h264", b"\0\0\0\1\6\xff\xff\xff"),
        ("h264", b"\0\0\0\1\6\x2f\x09\xc0"),
        ("hevc", b"\0\0\0\1\x4e"),
        ("hevc", b"\0\0\0\3\x4e\1\x2f"),
        ("hevc", b"\0\0\0\1\x4e\1\x2f\x09\xc0"),
    ],
)
def test_a_message_that_is_cut_off_is_none_or_a_harmless_one(codec: str, data: bytes) -> None:
    matrix = display_orientation(data, codec)
    assert matrix is None or orientation_of(matrix) is not None


@pytest.mark.parametrize(
    ("matrix", "rotation", "mirrored"),
    [
        ((1, 0, 0, 1), 0, None),
        ((-1, 0, 0, 1), 0, "horizontal"),
        ((1, 0, 0, -1), 0, "vertical"),
        ((0, 1, 1, 0), 90, "horizontal"),
        ((0, -1, -1, 0), 270, "horizontal"),
        ((0, 1, -1, 0), 270, None),
    ],
)
def test_a_mirrored_picture_is_named(matrix: tuple[int, int, int, int], rotation: int, mirrored: str | None) -> None:
    a, b, c, d = (65536 * number for number in matrix)
    turned = orientation_of(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=np.int32))
    assert (turned.rotation, turned.mirrored) == (rotation, mirrored)
