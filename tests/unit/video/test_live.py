"""What is decoded of a stream while it arrives equals what is decoded of its recording."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.contracts import ClipSpec, JobRequest
from service.errors import DecoderCrash, DurationLimit, Undecodable, VidtrError
from service.video.live_decode import decode_live
from service.video.live_input import LiveInput
from service.video.live_report import LiveAsked, LiveEnd, LiveReader, LiveStart, LiveWindow, said
from testing.videos import remux, write_video
from tests.unit.video.common import LIMITS, decode, limits, spec

PLACES = 10
MODEL = spec(frames=8, frame_step=4)


def asked(stride: float | None, model: ClipSpec = MODEL, crops: Any = 1, **changes: Any) -> LiveAsked:
    request = JobRequest(windows="all", stride=stride, crops=crops)
    given = {"places": PLACES, "most_frames": 100_000, "most_s": 100_000.0, **changes}
    return LiveAsked(spec=model, request=request, **given)


def piecewise(
    data: bytes, late: range = range(0), largest: int = 5000, seed: int = 1
) -> Callable[[dict[str, Any]], tuple[bytes, bool]]:
    """Hands out the bytes in pieces of all sizes; those that end in the range `late` come late."""
    sizes, at = random.Random(seed), 0

    def give(request: dict[str, Any]) -> tuple[bytes, bool]:
        nonlocal at
        size = min(request["next"], sizes.randint(1, largest))
        at += size
        return data[at - size : at], at in late

    return give


def live(
    data: bytes, want: LiveAsked, folder: Path, late: range = range(0)
) -> tuple[list[LiveWindow], list[NDArray[np.uint8]], LiveEnd]:
    out = folder / "live.clips"
    out.touch()
    windows: list[LiveWindow] = []
    clips: list[NDArray[np.uint8]] = []

    def tell(found: LiveStart | LiveWindow) -> None:
        if isinstance(found, LiveWindow):
            windows.append(found)
            with out.open("rb") as file:
                raw = os.pread(file.fileno(), want.window_bytes, found.number % want.places * want.window_bytes)
            clips.append(np.frombuffer(raw, np.uint8).reshape(want.request.crops, *want.spec.clip_shape))

    end = decode_live(LiveInput(piecewise(data, late)), out, want, LIMITS, tell)
    return windows, clips, end


def same_as_recorded(data: bytes, suffix: str, stride: float | None, folder: Path, crops: Any = 1) -> int:
    """Compare every window of the stream with the recording's; how many there are."""
    path = folder / f"recorded.{suffix}"
    path.write_bytes(data)
    want = asked(stride, crops=crops)
    answer, recorded = decode(path, want.request, MODEL, limits(max_clips_per_job=2000))
    windows, clips, end = live(data, want, folder)
    assert end.windows == len(windows)
    # The last window is pulled back to the end, and a transport stream does not say how long its last picture lasts.
    assert len(windows) >= len(answer.windows) - 2
    for window, clip in zip(windows, clips, strict=True):
        of_file = answer.windows[window.number]
        assert (window.start_s, window.end_s) == (of_file.start_s, of_file.end_s)
        assert window.times_s == of_file.times_s
        assert np.array_equal(clip, recorded[window.number])
    return len(windows)


@pytest.mark.parametrize("stride", [None, 0.5, 0.25])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_transport_stream_has_the_windows_of_its_recording(
    tmp_path: Path, stride: float | None, b_frames: int
) -> None:
    video = write_video(tmp_path / "a.ts", 200, fps=25, b_frames=b_frames)
    assert same_as_recorded(video.read_bytes(), "ts", stride, tmp_path) >= 7


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}),
        ("mkv", {"container_options": {"live": "1"}}),
        ("webm", {"codec": "libvpx", "container_options": {"live": "1"}}),
    ],
)
def test_other_containers_that_a_browser_or_camera_sends_have_the_windows_of_their_recording(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    video = write_video(tmp_path / f"a.{suffix}", 150, fps=30, **options)
    assert same_as_recorded(video.read_bytes(), suffix, 0.5, tmp_path) >= 7


def test_three_crops_of_a_window_are_those_of_the_recording(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 100, size=(96, 64))
    assert same_as_recorded(video.read_bytes(), "ts", None, tmp_path, crops=3) >= 2


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_that_lost_bytes_has_the_windows_of_the_recording_of_what_came(tmp_path: Path, seed: int) -> None:
    data = write_video(tmp_path / "a.ts", 240, fps=25, size=(128, 96), gop=12).read_bytes()
    where = random.Random(seed)
    pieces, at = [], where.randrange(0, 6000) if seed % 2 else 0
    for _ in range(4):
        end = at + where.randrange(len(data) // 6, len(data) // 3)
        pieces.append(data[at:end])
        at = end + where.randrange(200, 4000)
    assert same_as_recorded(b"".join(pieces), "ts", 0.5, tmp_path) >= 3


@pytest.mark.parametrize("gop", [12, 30])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("stride", [None, 0.25])
@pytest.mark.parametrize("share", [(0.3, 0.5), (0.3, 0.31), (0.0, 0.4)])
def test_of_a_stream_that_comes_late_all_windows_but_those_of_the_late_part_are_those_of_the_recording(
    tmp_path: Path, gop: int, b_frames: int, stride: float | None, share: tuple[float, float]
) -> None:
    path = write_video(tmp_path / "a.ts", 300, fps=25, size=(96, 64), gop=gop, b_frames=b_frames)
    data = path.read_bytes()
    want = asked(stride)
    answer, recorded = decode(path, want.request, MODEL, limits(max_clips_per_job=2000))
    windows, clips, end = live(data, want, tmp_path, range(*(int(at * len(data)) for at in share)))
    for window, clip in zip(windows, clips, strict=True):
        of_file = answer.windows[window.number]
        assert (window.start_s, window.end_s) == (of_file.start_s, of_file.end_s)
        assert window.times_s == of_file.times_s
        assert np.array_equal(clip, recorded[window.number])
    numbers = [window.number for window in windows]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= len(recorded) - 3
    missing = set(range(numbers[-1])) - set(numbers)
    assert missing
    # One stretch, not much longer than what was late and the pictures before the next keyframe.
    assert missing == set(range(min(missing), max(missing) + 1))
    step_s = stride or MODEL.span_s
    assert len(missing) * step_s < (share[1] - share[0]) * 12 + 2 * gop / 25 + 2 * MODEL.span_s
    assert end.frames_decoded < 300


def test_a_stream_that_is_late_to_its_end_says_how_many_windows_were_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 300, fps=25, size=(96, 64), gop=25, b_frames=0)
    data = path.read_bytes()
    whole, _, _ = live(data, asked(0.5), tmp_path)
    windows, _, end = live(data, asked(0.5), tmp_path, range(len(data) // 2, 2 * len(data)))
    assert 0 < len(windows) < len(whole)
    assert windows[-1].number + 1 + end.left_out == len(whole)


def test_a_stream_of_one_keyframe_is_decoded_however_late_it_comes(tmp_path: Path) -> None:
    one_key = {"x264-params": "scenecut=0"}
    path = write_video(tmp_path / "a.ts", 200, fps=25, size=(96, 64), gop=1000, b_frames=0, codec_options=one_key)
    data = path.read_bytes()
    windows, _, end = live(data, asked(None), tmp_path, range(2 * len(data)))
    assert [window.number for window in windows] == list(range(len(windows)))
    assert end.frames_decoded == 200


@pytest.mark.parametrize(("offset_s", "first_s"), [(0, 0), (7200, 0), (0, 7200), (0, 1)])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_clock_that_jumps_goes_on_as_it_does_in_the_recording(
    tmp_path: Path, offset_s: float, first_s: float, b_frames: int
) -> None:
    first, second = (write_video(tmp_path / f"{name}.mp4", 90, b_frames=b_frames) for name in "ab")
    parts = (remux(first, tmp_path / "a.ts", first_s), remux(second, tmp_path / "b.ts", offset_s))
    data = b"".join(part.read_bytes() for part in parts)
    assert same_as_recorded(data, "ts", 0.5, tmp_path) >= 8


def test_pictures_of_an_uneven_rate_are_shown_as_in_the_recording(tmp_path: Path) -> None:
    random_s = random.Random(4)
    times, at = [], Fraction(0)
    for _ in range(120):
        times.append(at)
        at += Fraction(random_s.choice([20, 33, 100, 900]), 1000)
    video = write_video(tmp_path / "a.ts", 120, times=times)
    assert same_as_recorded(video.read_bytes(), "ts", 0.5, tmp_path) >= 20


def test_a_stream_of_less_than_a_window_has_none(tmp_path: Path) -> None:
    windows, _, end = live(write_video(tmp_path / "a.ts", 20).read_bytes(), asked(None), tmp_path)
    assert (windows, end.windows) == ([], 0)
    assert end.frames_decoded == 20


def test_a_file_whose_index_is_at_its_end_is_refused(tmp_path: Path) -> None:
    def noise(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)

    data = write_video(tmp_path / "a.mp4", 60, size=(128, 128), draw=noise).read_bytes()
    with pytest.raises(Undecodable):
        live(data, asked(None), tmp_path)


def test_a_clock_that_runs_beyond_the_session_ends_it(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.ts", 120).read_bytes()
    with pytest.raises(DurationLimit):
        live(data, asked(None, most_s=2.0), tmp_path)


def _message(**changes: Any) -> bytes:
    window = LiveWindow(number=0, start_s=0.0, end_s=MODEL.span_s, times_s=(0.0,) * 8, frames_decoded=9, errors=0)
    return json.dumps(said(window.model_copy(update=changes))).encode()


@pytest.mark.parametrize(
    "message",
    [
        b"no json",
        b"{}",
        b'{"next": 0}',
        b'{"next": 65537}',
        b'{"next": 1, "end": {"windows": 0, "frames_decoded": 0, "errors": 0, "jumps": 0}}',
        b'{"end": {"windows": 1, "frames_decoded": 0, "errors": 0, "jumps": 0}}',
        b'{"start": {"container": "hls", "codec": "h264", "stream": 0}}',
        b'{"start": {"container": "mpegts", "codec": "none", "stream": 0}}',
        b'{"error": {"code": "unauthorized", "detail": "x"}}',
        _message(number=1),
        _message(number=-1),
        _message(start_s=1.0),
        _message(end_s=9.0),
        _message(times_s=(0.0,) * 7),
        _message(times_s=(0.0,) * 7 + (9.0,)),
        _message(times_s=(1.0,) + (0.0,) * 7),
        _message(errors=-1),
    ],
)
def test_what_no_decoder_says_of_a_stream_is_not_believed(message: bytes) -> None:
    with pytest.raises(DecoderCrash):
        LiveReader(asked(None), LIMITS).read(message)


def test_an_error_of_the_decoder_is_raised() -> None:
    with pytest.raises(VidtrError) as raised:
        LiveReader(asked(None), LIMITS).read(json.dumps(said(Undecodable("It is broken."))).encode())
    assert (raised.value.code, raised.value.detail) == ("undecodable", "It is broken.")
