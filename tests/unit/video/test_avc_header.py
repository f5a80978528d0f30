"""The header of H.264 against what FFmpeg finds out by decoding, and opening a file by what the header says."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import av
import pytest

from service.video import probe, source
from service.video.avc_header import AvcHeader, read_header
from service.video.probe import Probe, open_video
from service.video.timeline import IndexUnreliable
from testing.videos import write_video
from tests.unit.video.common import LIMITS

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no picture out of order": {"b_frames": 0},
    "many pictures out of order": {"b_frames": 4, "codec_options": {"x264-params": "b-pyramid=normal:b-adapt=0"}},
    "cropped": {"size": (66, 50)},
    "wide": {"size": (330, 90)},
    "an aspect of the table": {"pixel_aspect": Fraction(16, 11)},
    "an aspect of its own": {"pixel_aspect": Fraction(64, 51)},
    "an aspect that the container leaves out": {"codec_options": {"x264-params": "sar=4/3"}},
    "baseline": {"b_frames": 0, "codec_options": {"profile": "baseline"}},
    "main": {"codec_options": {"profile": "main"}},
    "scaling lists": {"codec_options": {"x264-params": "cqm=jvt"}},
    "colors": {"codec_options": {"x264-params": "range=pc:colorprim=bt709:transfer=bt709:colormatrix=bt709"}},
    "overscan and places of colors": {"codec_options": {"x264-params": "overscan=show:chromaloc=2"}},
    "a model of buffers": {
        "codec_options": {"x264-params": "nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=1000:pic-struct=1"}
    },
}


def extradata(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def found(path: Path, *, fast_open: bool, every_frame: bool = False) -> tuple[Probe, list[int]]:
    """What is known of the video; without `fast_open` by opening it the usual way. And the packets that were read."""
    telling = probe._usable_sps if fast_open else lambda *_: None
    with patch.object(probe, "_usable_sps", telling), open_video(path, LIMITS, every_frame) as video:
        return video.probe, [packet.pts or 0 for packet in video.packets]


@contextmanager
def opened_ways() -> Iterator[list[bool]]:
    """How often a container is opened, each time whether it is done lightly."""
    ways: list[bool] = []
    opened = source.open_upload

    def noted(*arguments: Any, fast_open: bool = False) -> Any:
        ways.append(fast_open)
        return opened(*arguments, fast_open=fast_open)

    with patch.object(probe, "open_upload", noted):
        yield ways


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_says_what_decoding_finds_out(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path / "v.mp4", **KINDS[kind])
    header = read_header(extradata(path))
    assert header is not None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (header.width, header.height) == (context.width, context.height)
        assert header.pixel_aspect in (None, stream.sample_aspect_ratio)
        assert header.progressive
        assert header.reorder is not None
        assert (header.reorder > 0) == context.has_b_frames


@pytest.mark.parametrize("every_frame", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_video_is_the_same_whether_its_header_or_its_pictures_are_asked(
    tmp_path: Path, kind: str, every_frame: bool
) -> None:
    path = write_video(tmp_path / "v.mp4", **KINDS[kind])
    (by_header, packets), (usual, same) = (found(path, fast_open=way, every_frame=every_frame) for way in (True, False))
    assert packets == same
    assert replace(by_header, timeline=usual.timeline) == usual
    assert (by_header.timeline.duration_s, by_header.timeline.frames) == (
        usual.timeline.duration_s,
        usual.timeline.frames,
    )


def test_the_aspect_is_taken_from_the_header_where_the_container_has_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", **KINDS["an aspect that the container leaves out"])
    assert found(path, fast_open=True)[0].pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_picture_is_decoded_to_open_a_video_whose_header_tells_all(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path / "v.mp4", **KINDS[kind])
    with opened_ways() as ways, open_video(path, LIMITS):
        pass
    assert ways == [True]


def test_an_index_that_turned_out_wrong_is_not_tried_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=600, gop=60)
    tried: list[int] = []

    def wrong(*_: Any) -> NoReturn:
        tried.append(1)
        raise IndexUnreliable

    with (
        patch.object(probe, "read_ends", wrong),
        opened_ways() as ways,
        open_video(path, LIMITS, until_s=0.5) as video,
    ):
        assert video.probe.timeline.packets is not None
    assert ways == [True, False]
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fragments.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("fields.mp4", {"codec_options": {"x264-params": "interlaced=1"}}),
        ("other_codec.mp4", {"codec": "mpeg4"}),
    ],
)
def test_other_videos_are_opened_the_usual_way(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = write_video(tmp_path / name, **options)
    with av.open(str(path)) as container:
        assert probe._usable_sps(container, container.streams.video[0]) is None
    assert found(path, fast_open=True)[0].timeline.frames == 60


def test_a_header_that_wrongly_says_that_nothing_is_out_of_order_is_not_believed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", b_frames=3)
    lie = AvcHeader(64, 64, progressive=True, reorder=0, pixel_aspect=Fraction(7, 5))
    with patch.object(probe, "read_header", lambda _: lie):
        assert found(path, fast_open=True)[0].pixel_aspect == 1


def test_a_header_that_contradicts_the_container_about_the_size_is_not_believed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    lie = AvcHeader(640, 64, progressive=True, reorder=2, pixel_aspect=Fraction(7, 5))
    with patch.object(probe, "read_header", lambda _: lie):
        assert found(path, fast_open=True)[0].pixel_aspect == 1


@pytest.mark.parametrize("kind", ["plain", "a model of buffers", "scaling lists"])
def test_a_header_that_ends_early_or_is_noise_says_nothing_and_breaks_nothing(tmp_path: Path, kind: str) -> None:
    whole = extradata(write_video(tmp_path / "v.mp4", **KINDS[kind]))
    size = int.from_bytes(whole[6:8], "big")
    for length in range(8 + size - 4):
        assert read_header(whole[:length]) is None
    dice = random.Random(5)
    for _ in range(2000):
        noise = bytes(dice.randrange(256) for _ in range(dice.randrange(60)))
        read_header(whole[:8] + whole[8:12] + noise)
        read_header(noise)


def test_of_two_headers_none_is_taken(tmp_path: Path) -> None:
    whole = extradata(write_video(tmp_path / "v.mp4"))
    assert read_header(whole[:5] + bytes([whole[5] + 1]) + whole[6:]) is None


def test_a_header_that_is_longer_than_any_true_one_is_not_read(tmp_path: Path) -> None:
    whole = extradata(write_video(tmp_path / "v.mp4"))
    size = int.from_bytes(whole[6:8], "big")
    padded = whole[8 : 8 + size] + bytes(2000)
    assert read_header(whole[:6] + len(padded).to_bytes(2, "big") + padded) is None
