"""Planned decoding gives the frames of a full sequential decode, bit for bit, whatever the codec and the container."""

from __future__ import annotations

import random
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from av.video.frame import VideoFrame

from service.contracts import JobRequest
from service.errors import VidtrError
from service.settings import Settings
from service.video import probe
from service.video.clips import decode_file
from service.video.decoder import DecodeStats
from service.video.packet_source import PlanUnsafe
from service.video.probe import open_video
from service.video.seeking_decoder import pick_planned
from service.video.sequential import pick_sequentially
from service.video.source import PACKET_BYTES
from testing.vc1_videos import Profile, write_vc1
from testing.videos import numbered, remux, write_video
from tests.unit.video.common import SHARED, limits, spec

X264 = "x264-params"
LIMITS = limits(
    allowed_containers=Settings.model_fields["allowed_containers"].default,
    allowed_codecs=Settings.model_fields["allowed_codecs"].default,
)

VVC = sorted((Path(__file__).parents[2] / "data" / "vvc").glob("*.mp4"))


def textured(number: int, width: int, height: int) -> Any:
    noise = np.random.default_rng(7).integers(0, 60, (height, width, 3), dtype=np.uint8)
    return numbered(number, width, height) // 2 + np.roll(noise, (number, 2 * number), axis=(0, 1))


def hevc(**params: Any) -> dict[str, Any]:
    text = ":".join(["log-level=none", *(f"{name.replace('_', '-')}={value}" for name, value in params.items())])
    return {"codec": "libx265", "codec_options": {"x265-params": text}}


STREAMS: dict[str, dict[str, Any]] = {
    "h264": {"b_frames": 3},
    "h264 closed groups without B": {"b_frames": 0},
    "h264 open groups": {"b_frames": 3, "codec_options": {X264: "open-gop=1"}},
    "h264 strict pyramid": {"b_frames": 7, "codec_options": {X264: "b-pyramid=strict:bframes=7:b-adapt=0"}},
    "h264 no pyramid": {"b_frames": 4, "codec_options": {X264: "b-pyramid=none:b-adapt=0"}},
    "h264 intra refresh": {"b_frames": 0, "codec_options": {X264: "intra-refresh=1"}},
    "h264 interlaced": {"b_frames": 2, "codec_options": {X264: "interlaced=1"}},
    "hevc": hevc(),
    "hevc open groups": hevc(open_gop=1, bframes=4),
    "hevc layers": hevc(temporal_layers=3, bframes=3),
    "mpeg4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2": {"codec": "mpeg2video", "b_frames": 2},
    "mjpeg": {"codec": "mjpeg"},
    "vp8": {"codec": "libvpx", "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "vp9": {"codec": "libvpx-vp9", "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    "av1": {"codec": "libsvtav1", "codec_options": {"preset": "13", "svtav1-params": "enable-overlays=0"}},
    "prores": {"codec": "prores"},
    "msmpeg4v2": {"codec": "msmpeg4v2"},
    "msmpeg4v3": {"codec": "msmpeg4"},
    "wmv1": {"codec": "wmv1"},
    "wmv2": {"codec": "wmv2"},
    "flv1": {"codec": "flv"},
    "cinepak": {"codec": "cinepak"},
    "dnxhd": {"codec": "dnxhd", "codec_options": {"profile": "dnxhr_lb"}},
    "huffyuv": {"codec": "huffyuv"},
    "wmv3": {},
    "vc1": {},
}
VC1: dict[str, Profile] = {"wmv3": "wmv3", "vc1": "vc1"}
CONTAINERS: dict[str, tuple[str, ...]] = {
    "mp4": ("h264", "hevc", "mpeg4", "mpeg2", "mjpeg", "vp9", "av1"),
    "mov": ("h264", "hevc", "mpeg4", "mjpeg", "prores", "dnxhd", "vc1"),
    "mkv": (
        *("h264", "hevc", "mpeg4", "mpeg2", "mjpeg", "vp8", "vp9", "av1", "prores"),
        "msmpeg4v3",
    ),
    "webm": ("vp8", "vp9", "av1"),
    "avi": ("h264", "mpeg4", "mjpeg", "msmpeg4v2", "msmpeg4v3", "cinepak", "huffyuv", "wmv3", "vc1"),
    "ts": ("h264", "hevc", "mpeg2"),
    "flv": ("h264", "flv1"),
    "wmv": ("msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1"),
    "mxf": ("h264", "mpeg2", "dnxhd"),
    "h264": ("h264",),
    "hevc": ("hevc",),
}
# What an encoder asks for; others get sizes at random.
SIZES = {"av1": (128, 96), "cinepak": (128, 96), "dnxhd": (256, 128)}
CASES = [(stream, suffix) for stream in STREAMS for suffix, codecs in CONTAINERS.items() if stream.split()[0] in codecs]
# AVI and bare streams have no presentation times; a packet of an interlaced transport stream may be half a picture;
# which pictures of VC-1 are keyframes is not known.
REFUSED = ("avi", "h264", "hevc", "h264 interlaced ts", "h264 interlaced flv")


def random_video(path: Path, stream: str, dice: random.Random, frames: int = 100) -> Path:
    """A video of `stream` with random rate, size, group length, cuts and turn."""
    options = dict(STREAMS[stream])
    options["gop"] = dice.choice([5, 12, 30, 250])
    if options.get("codec") == "libx265":
        params = (
            options["codec_options"]["x265-params"] + f":keyint={options['gop']}:min-keyint={min(options['gop'], 5)}"
        )
        options["codec_options"] = {"x265-params": params}
    width, height = SIZES.get(stream, (dice.choice([64, 96, 130]), dice.choice([64, 100])))
    cut = dice.randrange(20, frames)
    noise = np.random.default_rng(dice.randrange(1 << 30)).integers(0, 60, (400, 400, 3), dtype=np.uint8)

    def draw(number: int, width: int, height: int) -> Any:
        drift = number if number < cut else number * 3
        texture = np.roll(noise, (drift, 2 * drift), axis=(0, 1))[:height, :width]
        return (numbered(number, width, height) // 2 + texture + (80 if number >= cut else 0)).astype(np.uint8)

    if path.suffix in (".mkv", ".webm") and dice.random() < 0.5:
        steps = [Fraction(dice.choice([17, 33, 40, 90]), 1000) for _ in range(frames)]
        options["times"] = [sum(steps[:number], Fraction(0)) for number in range(frames)]
    if path.suffix == ".mp4" and dice.random() < 0.5:
        options["turn"] = (dice.choice([90, 180, -90]), False, False)
    rate = dice.choice([24, 25, 30, 50, 60])
    if profile := VC1.get(stream):
        return write_vc1(path, frames, fps=rate, gop=options["gop"], profile=profile)
    if "mpeg2" in stream:
        options.pop("times", None)  # its encoder knows a few fixed rates only
    return write_video(path, frames, fps=rate, size=(width, height), draw=draw, **options)


def picked(
    path: Path,
    moments: list[float],
    planned: bool,
    every_frame: bool,
    kept_bytes: int = 1 << 24,
    until_s: float | None = None,
) -> tuple[DecodeStats, dict[int, bytes]]:
    """What is picked; with `planned` by a plan, from packets in memory if they come to at most `kept_bytes`."""
    frames: dict[int, bytes] = {}

    def take(number: int, frame: VideoFrame) -> None:
        frames[number] = frame.to_ndarray().tobytes()

    with patch.object(probe, "_KEPT_BYTES", kept_bytes), open_video(path, LIMITS, every_frame, until_s) as video:
        return (pick_planned if planned else pick_sequentially)(video, moments, take, LIMITS), frames


def check(path: Path, dice: random.Random, plans: int = 2, every_frame: bool = False) -> int:
    """Compare on random window plans; how many plans were carried out rather than refused."""
    with open_video(path, LIMITS, every_frame) as video:
        duration = video.probe.timeline.duration_s
    done = 0
    for _ in range(plans):
        span = dice.choice([0.1, 0.5, 2.0])
        starts = [dice.uniform(0, max(0.0, duration - span)) for _ in range(dice.choice([1, 2, 5]))]
        moments = sorted({start + span * slot / 8 for start in starts for slot in range(8)})
        whole, expected = picked(path, moments, False, every_frame)
        carried_out = []
        for kept_bytes in (0, 1 << 24):
            with suppress(PlanUnsafe):
                carried_out.append(picked(path, moments, True, every_frame, kept_bytes))
        for plan, found in carried_out:
            assert plan.times_s == whole.times_s
            assert found == expected
        done += len(carried_out) == 2
    return done


@pytest.mark.parametrize(("stream", "suffix"), CASES, ids=[f"{stream} {suffix}" for stream, suffix in CASES])
def test_planned_frames_are_those_of_a_full_decode(tmp_path: Path, stream: str, suffix: str) -> None:
    dice = random.Random(f"{stream} {suffix}")
    path = random_video(tmp_path / f"a.{suffix}", stream, dice)
    done = check(path, dice)
    refused = stream == "vc1" or suffix in REFUSED or f"{stream} {suffix}" in REFUSED
    refused = refused or (stream.split()[0], suffix) == ("h264", "mxf")
    if "refresh" not in stream:  # there the keyframes are promises that only some hold
        assert done == 0 if refused else done > 0


@pytest.mark.parametrize("path", VVC, ids=lambda path: path.stem)
def test_planned_frames_of_vvc_are_those_of_a_full_decode(path: Path) -> None:
    # Groups of 32 pictures reorder them further than a plan follows: it is refused.
    assert check(path, random.Random(path.stem), plans=6) == 0


@pytest.mark.parametrize("stream", [stream for stream, suffix in CASES if suffix == "mp4"])
def test_reading_only_the_ends_of_an_indexed_file_gives_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr(probe, "_READ_ALL_PACKETS", 0)
    dice = random.Random(stream)
    path = random_video(tmp_path / "a.mp4", stream, dice, frames=250)
    with open_video(path, LIMITS) as sparse, open_video(path, LIMITS, every_frame=True) as dense:
        ends, whole = sparse.probe.timeline, dense.probe.timeline
        assert ends.packets is None
        assert (ends.origin, ends.end, ends.frames) == (whole.origin, whole.end, whole.frames)
    assert check(path, dice) > 0


@pytest.mark.parametrize("stream", [stream for stream, suffix in CASES if suffix == "mp4"])
def test_reading_no_further_than_needed_gives_the_same_frames(tmp_path: Path, stream: str) -> None:
    dice = random.Random(stream)
    path = random_video(tmp_path / "a.mp4", stream, dice, frames=400)
    with open_video(path, LIMITS, until_s=0.5) as near, open_video(path, LIMITS) as whole:
        found, everything = near.probe.timeline, whole.probe.timeline
        assert found.packets is None
        assert found.head is not None
        assert len(near.packets) < 110
        assert (found.origin, found.end, found.frames) == (everything.origin, everything.end, everything.frames)
    for _ in range(3):
        moments = sorted(dice.uniform(0, 0.5) for _ in range(8))
        expected, frames = picked(path, moments, False, False)
        for kept_bytes in (0, 1 << 24):
            planned, found_frames = picked(path, moments, True, False, kept_bytes, 0.5)
            assert planned.times_s == expected.times_s
            assert found_frames == frames


def test_a_frame_wanted_beyond_what_was_to_be_needed_is_found_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 400, gop=12)
    expected, frames = picked(path, [0.1, 9.0], False, False)
    planned, found_frames = picked(path, [0.1, 9.0], True, False, until_s=0.5)
    assert (planned.times_s, found_frames) == (expected.times_s, frames)


@pytest.mark.parametrize(("room", "kept"), [(0, 60), (-1, 0)], ids=["just enough", "a byte too little"])
def test_packets_are_kept_as_long_as_there_is_room_for_all(tmp_path: Path, room: int, kept: int) -> None:
    path = write_video(tmp_path / "a.mkv", 60)
    with open_video(path, LIMITS) as video:
        size = sum(packet.size + PACKET_BYTES for packet in video.packets)
    with patch.object(probe, "_KEPT_BYTES", size + room), open_video(path, LIMITS) as video:
        assert len(video.packets) == kept


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "flv"])
def test_a_late_start_changes_nothing(tmp_path: Path, suffix: str) -> None:
    dice = random.Random(suffix)
    path = random_video(tmp_path / "a.mp4", "h264", dice)
    assert check(remux(path, tmp_path / f"late.{suffix}", offset_s=11.3), dice) > 0


def test_fragments_change_nothing(tmp_path: Path) -> None:
    in_fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(tmp_path / "a.mp4", 200, gop=12, container_options=in_fragments)
    assert check(path, random.Random(1)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("stream", "suffix"), CASES, ids=[f"{stream} {suffix}" for stream, suffix in CASES])
def test_planned_frames_are_those_of_a_full_decode_for_more_videos(
    tmp_path: Path, stream: str, suffix: str, seed: int
) -> None:
    dice = random.Random(f"{stream} {suffix} {seed}")
    check(random_video(tmp_path / f"a.{suffix}", stream, dice), dice)


CLIPS = sorted((SHARED / "clips").glob("*.*")) if (SHARED / "clips").is_dir() else []


@pytest.mark.skipif(not CLIPS, reason="the folder of real clips is not here")
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_planned_frames_of_real_clips_are_those_of_a_full_decode(path: Path) -> None:
    with suppress(VidtrError):  # what is refused is refused before any plan
        check(path, random.Random(path.name), plans=1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_packet_that_does_not_decode_ends_the_plan(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 120, size=(320, 256), gop=30, draw=textured)
    with open_video(path, LIMITS) as video:
        video.container.seek(0, stream=video.stream)
        largest = max((bytes(packet) for packet in video.container.demux(video.stream)), key=len)
    data = path.read_bytes()
    path.write_bytes(data.replace(largest, largest[:40] + bytes(len(largest) - 40)))
    with pytest.raises(PlanUnsafe):
        picked(path, [slot * 0.5 for slot in range(8)], True, False)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_never_changes_what_a_carried_out_plan_gives(tmp_path: Path, suffix: str, seed: int) -> None:
    dice = random.Random(f"{suffix} {seed}")
    path = write_video(
        tmp_path / f"a.{suffix}", 120, size=(320, 256), gop=dice.choice([12, 30]), b_frames=3, draw=textured
    )
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 3, 10])):
        place = dice.randrange(len(data) // 10, len(data) - 2000)
        data[place : place + dice.choice([1, 100, 2000])] = dice.randbytes(dice.choice([1, 100]))
    path.write_bytes(bytes(data))
    with suppress(VidtrError):
        check(path, dice)


@pytest.mark.parametrize("stream", ["h264", "hevc open groups", "vp9", "mpeg4"])
def test_clips_in_420_are_the_same_by_a_plan_and_in_sequence(tmp_path: Path, stream: str) -> None:
    dice = random.Random(f"420 {stream}")
    path = random_video(tmp_path / "a.mkv", stream, dice)
    model, request = spec(clip_format="yuv420"), JobRequest(windows=3, crops=3)
    clips = []
    for pick in (pick_planned, pick_sequentially):
        out = tmp_path / pick.__name__
        with patch("service.video.clips.pick_frames", pick):
            decode_file(path, out, model, request, LIMITS)
        clips.append(out.read_bytes())
    assert len(clips[0]) == 9 * model.clip_bytes
    assert clips[0] == clips[1]
