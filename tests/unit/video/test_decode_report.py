"""What is believed of what a sandbox worker says: nothing that decoding this upload cannot have given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.contracts import DecodedVideo, JobRequest
from service.errors import VideoTooShort
from service.video.decode_report import Asked, Unbelievable, read_report, report_of
from testing.videos import write_video
from tests.unit.video.common import SPEC, config, decode

REQUEST = JobRequest(windows=2)
ASKED = Asked(SPEC, REQUEST, config(), 200)
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> DecodedVideo:
    return decode(write_video(tmp_path_factory.mktemp("video") / "a.mp4"), REQUEST)[0]


def believed(report: dict[str, Any], asked: Asked = ASKED, written_bytes: int | None = None) -> DecodedVideo:
    """What is made of a report; the file of clips is as large as it says."""
    if written_bytes is None:
        said = report.get("decoded", {})
        written_bytes = len(said.get("windows", ())) * said.get("crops", 0) * SPEC.clip_bytes
    return read_report(json.dumps(report).encode(), asked, written_bytes)


def changed(honest: DecodedVideo, place: str, value: Any) -> dict[str, Any]:
    """An honest report but for one value; `place` is its path, by dots."""
    report = report_of(honest)
    *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
    inner: Any = report["decoded"]
    for step in way:
        inner = inner[step]
    inner[last] = value
    return report


def test_an_honest_report_is_believed(honest: DecodedVideo) -> None:
    assert believed(report_of(honest)) == honest


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("crops", 30_000_000),
        ("crops", 3),
        ("crops", True),
        ("crops", "1"),
        ("clip_shape", [8, 64, 64, 4]),
        ("windows", []),
        ("coverage", NAN),
        ("coverage", 1.5),
        ("decode_ms", INFINITY),
        ("decode_ms", -1.0),
        ("video.duration_s", NAN),
        ("video.duration_s", 1e9),
        ("video.width", 0),
        ("video.width", 10**12),
        ("video.height", 10**400),
        ("video.fps", INFINITY),
        ("video.fps", -25.0),
        ("video.container", "x" * 60_000),
        ("video.codec", "rawvideo"),
        ("video.rotation", 360),
        ("video.frames_decoded", 0),
        ("video.frames_decoded", 10**9),
        ("windows.0.start_s", NAN),
        ("windows.0.end_s", INFINITY),
        ("windows.0.end_s", -1.0),
        ("windows.1.start_s", -5.0),
        ("windows.0.times_s", []),
        ("windows.0.times_s", [0.0] * 7 + [NAN]),
        ("windows.0.times_s", [5.0] + [0.0] * 7),
        ("windows.0.times_s", [1e300] * 8),
        ("warnings", [{"code": "you_have_won", "detail": ""}]),
        ("warnings", [{"code": "damaged_video", "detail": ""}] * 2),
    ],
)
def test_what_no_decoder_finds_is_not_believed(honest: DecodedVideo, place: str, value: Any) -> None:
    with pytest.raises(Unbelievable):
        believed(changed(honest, place, value))


def test_more_windows_than_asked_for_are_not_believed(honest: DecodedVideo) -> None:
    with pytest.raises(Unbelievable, match="number of windows"):
        believed(changed(honest, "windows", [window.model_dump(mode="json") for window in honest.windows] * 2))


@pytest.mark.parametrize("windows", ["auto", "all"])
def test_more_clips_than_there_is_room_for_are_not_believed(honest: DecodedVideo, windows: Any) -> None:
    report, request = report_of(honest), JobRequest(windows=windows)
    assert believed(report, Asked(SPEC, request, config(), 2))
    with pytest.raises(Unbelievable):
        believed(report, Asked(SPEC, request, config(), 1))


@pytest.mark.parametrize("off", [-1, 1])
def test_a_file_of_another_size_is_not_believed(honest: DecodedVideo, off: int) -> None:
    with pytest.raises(Unbelievable, match="size of the clips"):
        believed(report_of(honest), written_bytes=2 * SPEC.clip_bytes + off)


@pytest.mark.parametrize("report", [b"", b"{}", b"[1]", b"\xff", b"[" * 60_000, b'{"error": 1, "decoded": 1}'])
def test_what_is_no_report_is_not_believed(report: bytes) -> None:
    with pytest.raises(Unbelievable):
        read_report(report, ASKED, 0)


def said(**changes: Any) -> dict[str, Any]:
    error = {"code": "video_too_short", "detail": "Too short.", "limit": 4, "actual": 2, "retry_after_s": None}
    return {"error": {**error, **changes}}


def test_an_error_keeps_its_type_and_values() -> None:
    with pytest.raises(VideoTooShort) as caught:
        believed(said())
    assert (caught.value.detail, caught.value.limit, caught.value.actual) == ("Too short.", 4, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "unauthorized"},
        {"code": "decode_timeout"},
        {"code": "no_such_code"},
        {"code": 7},
        {"retry_after_s": "soon"},
        {"retry_after_s": NAN},
        {"limit": INFINITY},
        {"actual": 10**300},
        {"actual": [1]},
        {"detail": None},
    ],
)
def test_an_error_that_no_decoder_raises_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(Unbelievable):
        believed(said(**changes))


def test_what_an_error_says_is_short_and_without_control_characters() -> None:
    with pytest.raises(VideoTooShort) as caught:
        believed(said(detail='\x1b[2J\n{"event": "forged"}\u202e' + "x" * 10_000, actual="a\rb"))
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) == 2000
    assert caught.value.actual == "a\N{REPLACEMENT CHARACTER}b"


def test_what_is_no_text_can_be_said() -> None:
    [warning] = believed(
        report_of(
            decoded_with("damaged_video", "bytes \udcff of a file\n"),
        )
    ).warnings
    assert warning.detail == "bytes \N{REPLACEMENT CHARACTER} of a file\N{REPLACEMENT CHARACTER}"


def decoded_with(code: str, detail: str) -> DecodedVideo:
    window = {"start_s": 0.0, "end_s": 1.0, "times_s": [0.0] * SPEC.frames}
    return DecodedVideo.model_validate(
        {
            "video": {
                "duration_s": 1.0,
                "width": 64,
                "height": 64,
                "fps": None,
                "container": "mp4",
                "codec": "h264",
                "rotation": 0,
                "frames_decoded": 8,
            },
            "coverage": 1.0,
            "windows": [window],
            "crops": 1,
            "clip_shape": SPEC.clip_shape,
            "warnings": [{"code": code, "detail": detail}],
            "decode_ms": 1.0,
        }
    )


SHOTS = Asked(SPEC, JobRequest(windows="all"), config(max_shots=3), 200)


def with_boundaries(honest: DecodedVideo, *boundaries: tuple[float, float, str]) -> dict[str, Any]:
    said = [{"start_s": start_s, "end_s": end_s, "transition": kind} for start_s, end_s, kind in boundaries]
    return changed(honest, "boundaries", said)


def test_shot_boundaries_that_were_asked_for_are_believed(honest: DecodedVideo) -> None:
    report = with_boundaries(honest, (0.5, 0.5, "cut"), (1.0, 1.5, "dissolve"))
    assert len(believed(report, SHOTS).boundaries or ()) == 2


@pytest.mark.parametrize(
    "boundaries",
    [
        [(1.0, 1.0, "cut"), (0.5, 0.5, "cut")],
        [(1.0, 0.5, "dissolve")],
        [(0.5, 1.0, "cut")],
        [(0.5, 0.5, "dissolve")],
        [(0.5, 0.5, "wipe")],
        [(-1.0, -1.0, "cut")],
        [(1e9, 1e9, "cut")],
        [(NAN, NAN, "cut")],
        [(0.1, 0.1, "cut"), (0.2, 0.2, "cut"), (0.3, 0.3, "cut")],
    ],
)
def test_impossible_shot_boundaries_are_not_believed(
    honest: DecodedVideo, boundaries: list[tuple[float, float, str]]
) -> None:
    with pytest.raises(Unbelievable):
        believed(with_boundaries(honest, *boundaries), SHOTS)


def test_shot_boundaries_that_were_not_asked_for_are_not_believed(honest: DecodedVideo) -> None:
    with pytest.raises(Unbelievable):
        believed(with_boundaries(honest, (0.5, 0.5, "cut")))
