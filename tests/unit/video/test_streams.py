"""Which of several video streams is looked at, and what headers say of the length of one among others."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from service.contracts import JobRequest
from service.errors import InvalidOption
from testing.videos import number_of, numbered, truncated, write_video
from tests.unit.video.common import decode


def together(path: Path, parts: Sequence[Path], default: Sequence[bool] = (), late_s: float = 0.0) -> Path:
    """The streams of several files in one; the first is `late_s` late, and `default` says which the file marks."""
    with av.open(str(path), "w") as taken:
        packets: list[Any] = []
        opened = [av.open(str(part)) for part in parts]
        for number, given in enumerate(opened):
            for stream in given.streams:
                copy = taken.add_stream_from_template(stream)
                if default:
                    copy.disposition = Disposition.default if default[number] else Disposition(0)
                for packet in given.demux(stream):
                    if packet.dts is not None:
                        shift = round((late_s if number == 0 else 0) / packet.time_base)
                        packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
                        packet.stream = copy
                        packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            taken.mux(packet)
        for given in opened:
            given.close()
    return path


def offset_by(first: int) -> Any:
    return lambda number, width, height: numbered(number + first, width, height)


def two(folder: Path, suffix: str, lengths: tuple[int, int], default: Sequence[bool] = ()) -> Path:
    """Two videos in a file, of frames from 0 and from 500 on."""
    parts = [
        write_video(folder / f"{number}.mp4", length, draw=offset_by(500 * number), b_frames=0)
        for number, length in enumerate(lengths)
    ]
    return together(folder / f"two.{suffix}", parts, default)


def shown(path: Path, **options: Any) -> tuple[int, int | None, int | None]:
    """The first number that is shown, and the stream of how many."""
    answer, clips = decode(path, JobRequest(windows=1, **options))
    return number_of(clips[0, 0, 0]), answer.video.stream, answer.video.video_streams


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_of_streams_of_one_length_the_first_is_taken_in_every_container(tmp_path: Path, suffix: str) -> None:
    assert shown(two(tmp_path, suffix, (60, 65))) == (0, 0, 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_longer_stream_goes_before_a_shorter_one(tmp_path: Path, suffix: str) -> None:
    assert shown(two(tmp_path, suffix, (40, 90), (True, True))) == (500, 1, 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_default_stream_goes_before_a_longer_one(tmp_path: Path, suffix: str) -> None:
    assert shown(two(tmp_path, suffix, (40, 90), (True, False))) == (0, 0, 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("stream", [0, 1])
def test_the_caller_may_choose_a_stream(tmp_path: Path, suffix: str, stream: int) -> None:
    assert shown(two(tmp_path, suffix, (60, 60)), stream=stream) == (500 * stream, stream, 2)


def test_a_stream_that_is_not_there_is_an_invalid_option(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidOption, match="`stream` must be at most 1, not 2: the file has 2 video streams"
    ) as caught:
        shown(two(tmp_path, "mp4", (60, 60)), stream=2)
    assert (caught.value.limit, caught.value.actual) == (1, 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_single_picture_beside_a_video_is_its_cover(tmp_path: Path, suffix: str) -> None:
    cover = write_video(tmp_path / "cover.mov", 1, codec="mjpeg")
    video = write_video(tmp_path / "video.mp4", 60)
    assert shown(together(tmp_path / f"a.{suffix}", [cover, video])) == (0, 0, 1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
def test_a_video_that_begins_later_than_its_sound_is_not_truncated(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / "video.mp4", 120, b_frames=0)
    sound = write_video(tmp_path / "sound.mp4", 180, audio=True)
    with av.open(str(sound)) as given, av.open(str(tmp_path / "only.m4a"), "w") as taken:
        copy = taken.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream = copy
                taken.mux(packet)
    answer, _ = decode(together(tmp_path / f"late.{suffix}", [video, tmp_path / "only.m4a"], late_s=3.0))
    assert not answer.warnings


@pytest.mark.parametrize("suffix", ["flv", "mkv"])
def test_a_sound_that_is_longer_than_the_video_is_no_truncation(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 60, fps=60, audio=True, b_frames=0)
    long = write_video(tmp_path / "long.mp4", 240, audio=True)
    with av.open(str(long)) as given, av.open(str(tmp_path / "only.m4a"), "w") as taken:
        copy = taken.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream = copy
                taken.mux(packet)
    video = write_video(tmp_path / "video.mp4", 120, b_frames=0)
    answer, _ = decode(together(path, [video, tmp_path / "only.m4a"]))
    assert not answer.warnings


def test_a_transport_stream_that_begins_within_a_group_is_not_truncated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 120, gop=40)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 8 // 188 * 188 :])
    answer, _ = decode(path)
    assert not answer.warnings


def test_a_flash_header_that_promises_more_than_all_streams_hold_is_still_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.flv", 120, audio=True, b_frames=0)
    data = bytearray(path.read_bytes())
    place = data.index(b"duration") + 9
    data[place : place + 8] = struct.pack(">d", 100.0)
    path.write_bytes(bytes(data))
    answer, _ = decode(path)
    assert [warning.code for warning in answer.warnings] == ["truncated_video"]
    assert "promises 100.00 s" in answer.warnings[0].detail


def test_a_flash_video_that_was_cut_off_is_told(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.flv", 240, audio=True, b_frames=0)
    answer, _ = decode(truncated(whole, tmp_path / "cut.flv", 0.5))
    assert "truncated_video" in {warning.code for warning in answer.warnings}
