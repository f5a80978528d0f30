"""Which frames come out of real files, shown by the numbers in the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from service.contracts import JobRequest
from service.errors import (
    CodecNotAllowed,
    ContainerNotAllowed,
    DurationLimit,
    EmptyUpload,
    FrameLimit,
    NoVideoStream,
    PacketLimit,
    PixelLimit,
    StreamLimit,
    Undecodable,
    VideoTooShort,
)
from service.video.sniff import Family
from service.video.source import open_upload
from testing.videos import number_of, quadrant_colors, quadrants, remux, truncated, write_audio, write_video
from tests.unit.video.common import decode, limits, spec


def numbers(clip: NDArray[np.uint8]) -> list[int]:
    return [number_of(image) for image in clip]


def frame_at(moment: float, fps: float, tick: float) -> int:
    """The frame on screen at `moment`, where the file's timestamps are rounded to `tick` seconds."""
    return int((moment + 0.6 * tick) * fps)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n"

CONTAINERS: list[tuple[str, dict[str, Any]]] = [
    ("a.mp4", {}),
    ("a.mov", {}),
    ("a.mkv", {}),
    ("a.flv", {}),
    ("a.ts", {}),
    ("h264.avi", {}),
    ("packed.avi", {"codec": "mpeg4", "b_frames": 2}),
    ("mjpeg.avi", {"codec": "mjpeg"}),
    ("a.mpg", {"codec": "mpeg2video", "fps": 25}),
    ("a.gif", {"codec": "gif", "fps": 25}),
    ("vp8.webm", {"codec": "libvpx"}),
    ("vp9.webm", {"codec": "libvpx-vp9"}),
    ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    ("wmv2.wmv", {"codec": "wmv2"}),
    ("msmpeg4v3.avi", {"codec": "msmpeg4"}),
    ("msmpeg4v2.avi", {"codec": "msmpeg4v2"}),
    ("flv1.flv", {"codec": "flv"}),
    ("cinepak.avi", {"codec": "cinepak"}),
    ("huffyuv.avi", {"codec": "huffyuv"}),
    ("mpeg2.mxf", {"codec": "mpeg2video"}),
    ("h264.mxf", {}),
    ("bare.h264", {}),
    ("without-b.h264", {"b_frames": 0}),
    ("bare.hevc", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
    ("open-gop.mkv", {"codec_options": {"x264-params": "open-gop=1"}, "b_frames": 3}),
]


@pytest.mark.parametrize(("name", "options"), CONTAINERS, ids=[name for name, _ in CONTAINERS])
def test_the_frame_on_screen_is_sampled_from_every_container(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = write_video(tmp_path / name, frames=90, **options)
    # FFmpeg guesses the times of pictures that share an MPEG program stream's packet, and errs late in this file.
    answer, clips = decode(path, JobRequest(windows=2, end=2.4))
    for window, clip in zip(answer.windows, clips[:, 0], strict=True):
        wanted = [window.start_s + k * 4 / 30 for k in range(8)]
        assert numbers(clip) == [frame_at(moment, options.get("fps", 30), 0.001) for moment in wanted]


@pytest.mark.parametrize("fps", [24, 25, 30, 60, Fraction(30000, 1001)])
def test_frames_are_sampled_by_time_at_every_rate(tmp_path: Path, fps: Fraction | int) -> None:
    path = write_video(tmp_path / "a.mp4", frames=3 * round(fps), fps=fps)
    answer, clips = decode(path, JobRequest(windows=1))
    assert numbers(clips[0, 0]) == [frame_at(k * 4 / 30, float(fps), 0.0001) for k in range(8)]
    assert answer.video.fps == pytest.approx(float(fps))


def test_sampled_frames_carry_their_own_times(tmp_path: Path) -> None:
    answer, clips = decode(write_video(tmp_path / "a.mp4", frames=48, fps=24), JobRequest(windows=1))
    assert answer.windows[0].times_s == pytest.approx([number / 24 for number in numbers(clips[0, 0])])


def test_a_variable_frame_rate_is_sampled_by_presentation_time(tmp_path: Path) -> None:
    times = [Fraction(number * number, 1000) for number in range(40)]
    _, clips = decode(write_video(tmp_path / "a.mkv", frames=40, times=times), JobRequest(windows=1))
    wanted = [max(i for i in range(40) if i * i / 1000 <= k * 4 / 30 + 0.0005) for k in range(8)]
    assert numbers(clips[0, 0]) == wanted


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_times_count_from_the_first_presented_frame(tmp_path: Path, name: str) -> None:
    plain = write_video(tmp_path / "plain.mp4", frames=60)
    late = remux(plain, tmp_path / name, offset_s=7.0)
    answer, clips = decode(late, JobRequest(windows=1))
    assert answer.windows[0].times_s[0] == 0
    assert numbers(clips[0, 0]) == [k * 4 for k in range(8)]
    assert answer.video.duration_s == pytest.approx(2.0, abs=0.002)


def test_start_chooses_the_first_sampled_frame(tmp_path: Path) -> None:
    _, clips = decode(write_video(tmp_path / "a.mp4", frames=90), JobRequest(start=1.0, end=3.0, windows=1))
    assert numbers(clips[0, 0])[0] == 30


def test_index_sampling_takes_every_stride_th_frame(tmp_path: Path) -> None:
    times = [Fraction(number * number, 1000) for number in range(40)]
    path = write_video(tmp_path / "a.mkv", frames=40, times=times)
    _, clips = decode(path, JobRequest(windows=1), spec(sampling="index", frame_step=5))
    assert numbers(clips[0, 0]) == [0, 5, 10, 15, 20, 25, 30, 35]


def test_clips_lie_window_major_in_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=90, size=(128, 64))
    answer, clips = decode(path, JobRequest(windows=2, crops=3))
    assert clips.shape == (2, 3, 8, 64, 64, 3)
    assert [(plan.window, plan.crop) for plan in answer.clips] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    left, right, middle = clips[1]
    np.testing.assert_array_equal(left[:, :, 32:], middle[:, :, :32])
    np.testing.assert_array_equal(right[:, :, :32], middle[:, :, 32:])


ORACLE: list[tuple[str, dict[str, Any]]] = [
    ("short-groups.mp4", {"gop": 10}),
    ("long-groups.mp4", {"gop": 250, "b_frames": 4}),
    ("open-groups.mp4", {"gop": 15, "b_frames": 3, "codec_options": {"x264-params": "open-gop=1"}}),
    ("open-groups.mkv", {"gop": 15, "b_frames": 3, "codec_options": {"x264-params": "open-gop=1"}}),
    ("refresh.mkv", {"gop": 30, "codec_options": {"x264-params": "intra-refresh=1"}}),
    ("vp9.webm", {"codec": "libvpx-vp9", "gop": 20}),
    ("hevc.mp4", {"codec": "libx265", "gop": 20, "codec_options": {"x265-params": "log-level=none"}}),
    ("stream.ts", {"gop": 10}),
]


@pytest.mark.parametrize(("name", "options"), ORACLE, ids=[name for name, _ in ORACLE])
@pytest.mark.parametrize("resize", ["swscale_bilinear", "opencv_bilinear"])
def test_sampled_pictures_equal_those_of_a_full_decode_bit_for_bit(
    tmp_path: Path, name: str, options: dict[str, Any], resize: str
) -> None:
    path = write_video(tmp_path / name, frames=300, size=(96, 64), **options)
    answer, clips = decode(path, JobRequest(windows=3), spec(resize=resize))
    with av.open(str(path)) as container:
        frames = sorted(container.decode(video=0), key=lambda frame: frame.pts or 0)
    origin, tick = frames[0].pts or 0, float(frames[0].time_base or 0)
    for window, clip in zip(answer.windows, clips[:, 0], strict=True):
        for slot, found in enumerate(clip):
            ticks = (window.start_s + slot * 4 / 30) / tick + origin + 0.5
            frame = max((frame for frame in frames if (frame.pts or 0) <= ticks), key=lambda frame: frame.pts or 0)
            # At the size of the video both ways of resizing leave the picture as swscale converts it.
            picture = VideoReformatter().reformat(frame, 96, 64, format="rgb24", interpolation="BILINEAR", threads=1)
            np.testing.assert_array_equal(found, picture.to_ndarray()[:, 16:80])


def test_groups_of_pictures_that_hold_no_wanted_frame_are_not_decoded(tmp_path: Path) -> None:
    answer, _ = decode(write_video(tmp_path / "a.mp4", frames=600, gop=10), JobRequest(windows=2))
    assert answer.video.frames_decoded < 150


def test_keyframe_flags_that_lie_do_not_change_the_frames(tmp_path: Path) -> None:
    honest = write_video(tmp_path / "honest.mkv", frames=200, gop=100, b_frames=0)
    lying = tmp_path / "lying.mkv"
    with av.open(str(honest)) as given, av.open(str(lying), "w") as taken:
        stream = given.streams.video[0]
        copy = taken.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.is_keyframe = True
                packet.stream = copy
                taken.mux(packet)
    _, clips = decode(lying, JobRequest(start=2.5, windows=1))
    assert numbers(clips[0, 0]) == [75 + 4 * k for k in range(8)]


@pytest.mark.parametrize(
    ("turn", "rotation", "colors"),
    [
        ((0, False, False), 0, "RGBW"),
        ((90, False, False), 90, "GWRB"),
        ((180, False, False), 180, "WBGR"),
        ((-90, False, False), 270, "BRWG"),
        ((0, True, False), 0, "GRWB"),
        ((0, False, True), 0, "BWRG"),
    ],
)
def test_the_display_matrix_turns_and_mirrors_the_picture(
    tmp_path: Path, turn: tuple[int, bool, bool], rotation: int, colors: str
) -> None:
    path = write_video(tmp_path / "a.mp4", size=(96, 64), draw=quadrants, turn=turn)
    answer, clips = decode(path, model=spec(height=64, width=64))
    assert quadrant_colors(clips[0, 0, 0]) == colors
    if not (turn[1] or turn[2]):
        assert answer.video.rotation == rotation
    assert (answer.video.width, answer.video.height) == ((64, 96) if turn[0] in (90, -90) else (96, 64))


def test_the_pixel_aspect_stretches_the_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", size=(64, 64), draw=quadrants, pixel_aspect=Fraction(2))
    answer, clips = decode(path, JobRequest(crops=3))
    assert (answer.video.width, answer.video.height) == (128, 64)
    assert quadrant_colors(clips[0, 0, 0]) == "RRBB"


def test_a_sound_track_changes_nothing(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4")
    _, clips = decode(silent)
    _, with_sound = decode(write_video(tmp_path / "sound.mp4", audio=True))
    np.testing.assert_array_equal(clips, with_sound)


def test_the_file_is_described_as_found(tmp_path: Path) -> None:
    answer, _ = decode(write_video(tmp_path / "a.mkv", frames=45, size=(80, 64)))
    video = answer.video
    assert (video.width, video.height, video.container, video.codec, video.rotation) == (80, 64, "matroska", "h264", 0)
    assert video.duration_s == pytest.approx(1.5, abs=0.002)
    assert answer.clip_shape == (8, 64, 64, 3)


def test_frames_past_the_end_repeat_the_last_one_with_a_warning(tmp_path: Path) -> None:
    answer, clips = decode(write_video(tmp_path / "a.mp4", frames=20))
    assert numbers(clips[0, 0]) == [0, 4, 8, 12, 16, 19, 19, 19]
    (warning,) = answer.warnings
    assert warning.code == "frames_repeated"
    assert warning.detail.startswith("3 of 8")


def test_a_video_of_two_frames_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(VideoTooShort) as caught:
        decode(write_video(tmp_path / "a.mp4", frames=2))
    assert (caught.value.limit, caught.value.actual) == (4, 2)


def test_a_cut_off_matroska_file_is_decoded_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", frames=150)
    answer, clips = decode(truncated(whole, tmp_path / "cut.mkv", 0.6))
    assert [warning.code for warning in answer.warnings] == ["truncated_video"]
    assert answer.video.duration_s < 4
    assert numbers(clips[0, 0]) == [4 * k for k in range(8)]


def test_a_cut_off_mp4_without_its_index_is_undecodable(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4")
    with pytest.raises(Undecodable, match="header or index"):
        decode(truncated(whole, tmp_path / "cut.mp4", 0.6))


def scribbled(source: Path, target: Path, first: float, last: float) -> Path:
    """Overwrite a part of the file's bytes."""
    data = bytearray(source.read_bytes())
    begin, end = int(len(data) * first), int(len(data) * last)
    data[begin:end] = bytes(end - begin)
    target.write_bytes(bytes(data))
    return target


def test_damage_is_bridged_by_the_nearest_good_frames_with_a_warning(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=90, gop=6, size=(128, 128))
    answer, clips = decode(scribbled(whole, tmp_path / "damaged.mp4", 0.4, 0.5), JobRequest(windows=3))
    assert "damaged_video" in [warning.code for warning in answer.warnings]
    assert numbers(clips[0, 0]) == [4 * k for k in range(8)]
    before, after = numbers(clips[2, 0])[0], numbers(clips[2, 0])[-1]
    assert before < 44 < after == 90 - 4


def test_a_stream_without_one_good_packet_is_undecodable(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", codec="mpeg4", frames=30)
    data = bytearray(whole.read_bytes())
    begin = data.index(b"movi")
    end = data.index(b"idx1")
    position = begin + 4
    while position < end:
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        data[position + 8 : position + 8 + size] = b"\xff" * size
        position += 8 + size + size % 2
    whole.write_bytes(bytes(data))
    with pytest.raises(Undecodable):
        decode(whole)


def test_an_empty_file_is_an_empty_upload(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(EmptyUpload):
        decode(tmp_path / "a")


def test_an_mp4_with_sound_only_has_no_video_stream(tmp_path: Path) -> None:
    with pytest.raises(NoVideoStream, match="audio"):
        decode(write_audio(tmp_path / "a.mp4"))


def test_a_codec_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodecNotAllowed, match="h264") as caught:
        decode(write_video(tmp_path / "a.mp4"), bounds=limits(allowed_codecs=("vp9",)))
    assert caught.value.actual == "h264"


@pytest.mark.parametrize(
    ("changes", "error", "actual"),
    [
        ({"max_duration_s": 1.0}, DurationLimit, 2.0),
        ({"max_pixels": 4000}, PixelLimit, 4096),
        ({"max_packets": 59}, PacketLimit, 60),
        ({"max_decoded_frames": 20}, FrameLimit, 21),
        ({"max_streams": 1}, StreamLimit, 2),
    ],
)
def test_each_limit_names_itself_and_what_it_met(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], actual: float
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60, audio=True)
    with pytest.raises(error) as caught:
        decode(path, bounds=limits(**changes))
    assert (caught.value.limit, caught.value.actual) == (*changes.values(), actual)  # type: ignore[attr-defined]


def test_a_long_narrow_picture_may_not_grow_beyond_the_pixel_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", size=(2000, 16), draw=quadrants)
    with pytest.raises(PixelLimit):
        decode(path, bounds=limits(max_pixels=100_000))


@pytest.mark.parametrize("kind", ["ffconcat", "hls"])
def test_an_upload_that_names_another_file_is_refused_and_the_file_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    other = write_video(tmp_path / "other.ts")
    listing = {
        "ffconcat": f"ffconcat version 1.0\nfile '{other}'\n",
        "hls": f"#EXTM3U\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
    }[kind]
    upload = tmp_path / "upload.mp4"
    upload.write_text(listing)
    opened: list[str] = []

    def watched(self: Path, *args: Any, **options: Any) -> Any:
        opened.append(self.name)
        return open(self, *args, **options)

    monkeypatch.setattr(Path, "open", watched)
    with pytest.raises(ContainerNotAllowed):
        decode(upload)
    assert opened == ["upload.mp4"]


@pytest.mark.parametrize(("demuxer", "form"), [("concat", "ffconcat version 1.0\nfile 'other.ts'\n"), ("hls", HLS)])
def test_even_the_demuxer_of_a_playlist_could_open_nothing_but_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demuxer: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "other.ts")
    upload = tmp_path / "list"
    upload.write_text(form)
    with av.open(str(upload), format=demuxer) as unguarded:
        assert next(unguarded.decode(video=0))
    with (
        pytest.raises((Undecodable, PermissionError)),
        open_upload(upload, Family("list", demuxer), 10**7) as container,
    ):
        next(container.decode(video=0))
