"""Videos that are refused: each says what it is that stands in the way, and what to do."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import pytest

from service.errors import CodecNotAllowed, EncryptedVideo, NoVideoStream, Undecodable, VideoError
from testing.videos import remux, write_audio, write_video
from tests.unit.video.common import decode

KEY = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}


def renamed(path: Path, entry: bytes, name: bytes = b"avc1") -> Path:
    """The file with the four characters that name its coding replaced."""
    data = path.read_bytes()
    place = data.index(name, data.index(b"stsd"))
    path.write_bytes(data[:place] + entry + data[place + 4 :])
    return path


@pytest.mark.parametrize("movflags", ["", "frag_keyframe+empty_moov+default_base_moof"])
@pytest.mark.parametrize("codec", [{}, {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}])
def test_common_encryption_is_named(tmp_path: Path, movflags: str, codec: dict[str, Any]) -> None:
    scheme = {"encryption_scheme": "cenc-aes-ctr", **KEY, **({"movflags": movflags} if movflags else {})}
    path = write_video(tmp_path / "a.mp4", 60, container_options=scheme, **codec)
    with pytest.raises(EncryptedVideo, match="encrypted"):
        decode(path)


@pytest.mark.parametrize("entry", ["encv", "drmi"])
def test_a_sample_entry_of_encryption_is_named(tmp_path: Path, entry: str) -> None:
    path = renamed(write_video(tmp_path / "a.mp4"), entry.encode())
    with pytest.raises(EncryptedVideo, match=f"sample entry {entry}") as caught:
        decode(path)
    assert caught.value.actual == f"sample entry {entry}"


def test_a_scrambled_transport_stream_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 60)
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        number = int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
        if 32 < number < 0x1FFF and number != 0x1000:
            data[at + 3] |= 0x80
            data[at + 20 : at + 188] = bytes(value ^ 0x5A for value in data[at + 20 : at + 188])
    path.write_bytes(bytes(data))
    with pytest.raises(EncryptedVideo, match="scrambled"):
        decode(path)


@pytest.mark.parametrize("entry", [b"brpn", b"\xa9abc"])
def test_a_coding_without_a_decoder_is_named_by_its_sample_entry(tmp_path: Path, entry: bytes) -> None:
    path = renamed(write_video(tmp_path / "a.mp4"), entry)
    with pytest.raises(CodecNotAllowed) as caught:
        decode(path)
    assert f"`{entry.decode('latin-1')}`" in caught.value.detail


def test_a_codec_that_is_not_accepted_gets_the_command_that_converts_it(tmp_path: Path) -> None:
    with pytest.raises(CodecNotAllowed, match=r"codec is prores.*`ffmpeg -i INPUT -c:v libx264"):
        decode(write_video(tmp_path / "a.mov", codec="prores"))


@pytest.mark.parametrize("edit", [(0, 0), (2000, -1)], ids=["of no duration", "of an empty screen"])
def test_an_edit_list_that_hides_all_frames_is_named(tmp_path: Path, edit: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 12
    data[place : place + 8] = struct.pack(">Ii", *edit)
    path.write_bytes(bytes(data))
    with pytest.raises(Undecodable, match=r"edit list.*ignore_editlist"):
        decode(path)


def with_cover(folder: Path, *, flagged: bool) -> Path:
    """A piece of sound with a picture of its cover."""
    sound, picture = write_audio(folder / "sound.m4a"), write_video(folder / "cover.mov", 1, codec="mjpeg")
    path = folder / "song.mp4"
    with av.open(str(sound)) as first, av.open(str(picture)) as second, av.open(str(path), "w") as taken:
        copies = [(given, taken.add_stream_from_template(given.streams[0])) for given in (first, second)]
        if flagged:
            copies[1][1].disposition = av.stream.Disposition.attached_pic
        for given, copy in copies:
            for packet in given.demux():
                if packet.size:
                    packet.stream = copy
                    taken.mux(packet)
    return path


@pytest.mark.parametrize("flagged", [True, False])
def test_a_cover_picture_is_no_video(tmp_path: Path, flagged: bool) -> None:
    with pytest.raises(NoVideoStream, match="cover picture but no video; its streams are: audio, cover picture"):
        decode(with_cover(tmp_path, flagged=flagged))


def test_every_refusal_of_a_file_ends_with_a_sentence_of_advice(tmp_path: Path) -> None:
    refused = [
        with_cover(tmp_path, flagged=True),
        renamed(write_video(tmp_path / "encrypted.mp4"), b"encv"),
        renamed(write_video(tmp_path / "unknown.mp4"), b"brpn"),
        write_audio(tmp_path / "sound.mp4"),
        remux(write_video(tmp_path / "short.mp4", 2), tmp_path / "short.mkv"),
    ]
    for path in refused:
        with pytest.raises(VideoError) as caught:
            decode(path)
        assert any(word in caught.value.detail for word in ("Send ", "Convert ", "Export ")), caught.value.detail
