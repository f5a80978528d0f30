"""What is told of the windows of a video while it is decoded, and what of that is believed."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from service.contracts import DecodedVideo, JobRequest
from service.video.clips import decode_file
from service.video.decode_report import Asked, Unbelievable
from service.video.packet_source import PlanUnsafe
from service.video.progress import FIRST_WINDOWS, MORE_WINDOWS, ProgressReader, Told
from service.video.seeking_decoder import _PlannedPass
from service.video.segments import DecodeSegment, IndexedSegments
from service.video.timeline import Timeline
from testing.videos import write_video
from tests.unit.video.common import LIMITS, SPEC, config

REQUEST = JobRequest(windows="all")
ASKED = Asked(SPEC, REQUEST, config(**asdict(LIMITS)), LIMITS.max_clips_per_job)
WINDOWS = FIRST_WINDOWS + 2 * MORE_WINDOWS


class Followed:
    """A decode with what was told on its way: the known video, and the clips that were complete then."""

    def __init__(self, path: Path) -> None:
        out = path.with_suffix(".clips")
        self.messages: list[bytes] = []
        self.steps: list[tuple[DecodedVideo, int, bytes]] = []
        reader = ProgressReader(
            ASKED,
            lambda known, ready: self.steps.append((known, ready, out.read_bytes()[: ready * SPEC.clip_bytes])),
        )

        def tell(said: dict[str, Any]) -> None:
            self.messages.append(json.dumps(said).encode())
            assert reader.read(self.messages[-1])

        self.answer = decode_file(path, out, SPEC, REQUEST, LIMITS, tell)
        self.clips = out.read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    span = SPEC.frames * SPEC.frame_step
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", WINDOWS * span, gop=30)


@pytest.fixture(scope="module")
def followed(film: Path) -> Followed:
    return Followed(film)


@pytest.fixture
def messages(followed: Followed) -> list[dict[str, Any]]:
    return [json.loads(message) for message in followed.messages]


def test_the_first_windows_are_told_soon_and_the_last_ones_by_the_report_alone(followed: Followed) -> None:
    ready = [ready for _, ready, _ in followed.steps]
    assert FIRST_WINDOWS <= ready[0] < MORE_WINDOWS
    assert len(ready) > 1
    assert ready[-1] < WINDOWS == len(followed.answer.windows)


def test_windows_that_are_told_of_have_their_clips_and_times_for_good(followed: Followed) -> None:
    for known, ready, clips in followed.steps:
        assert clips == followed.clips[: len(clips)]
        assert len(clips) == ready * SPEC.clip_bytes
        assert known.windows[:ready] == followed.answer.windows[:ready]


def test_the_plan_says_what_the_video_is(followed: Followed) -> None:
    known, _, _ = followed.steps[0]
    assert known.video == followed.answer.video.model_copy(update={"frames_decoded": 0})
    assert (len(known.windows), known.coverage) == (WINDOWS, followed.answer.coverage)


def test_following_a_decode_changes_nothing_of_its_answer(film: Path, followed: Followed) -> None:
    out = film.with_suffix(".alone")
    alone = decode_file(film, out, SPEC, REQUEST, LIMITS)
    assert alone.model_copy(update={"decode_ms": 0.0}) == followed.answer.model_copy(update={"decode_ms": 0.0})
    assert out.read_bytes() == followed.clips


def test_a_video_that_is_decoded_whole_is_told_of_as_well(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "old.avi", (MORE_WINDOWS + 2) * SPEC.frames * SPEC.frame_step, codec="mpeg4", b_frames=0
    )
    followed = Followed(path)
    assert [ready for _, ready, _ in followed.steps] == [FIRST_WINDOWS]
    assert followed.steps[0][0].windows[:FIRST_WINDOWS] == followed.answer.windows[:FIRST_WINDOWS]


def test_a_short_video_is_told_of_by_its_report_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", MORE_WINDOWS * SPEC.frames * SPEC.frame_step)
    assert Followed(path).steps == []


def test_what_a_plan_has_settled_stays_when_it_is_given_up(
    film: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = _PlannedPass._decode

    def give_up(self: _PlannedPass, segment: DecodeSegment, packet: Any) -> None:
        if len(self.stamps) > 20 * SPEC.frames:
            raise PlanUnsafe("for a test")
        decode(self, segment, packet)

    monkeypatch.setattr(_PlannedPass, "_decode", give_up)
    again = Followed(film)
    assert [ready for _, ready, _ in again.steps] == [ready for _, ready, _ in followed.steps]
    assert (again.answer.windows, again.clips) == (followed.answer.windows, followed.clips)
    for known, ready, clips in again.steps:
        assert clips == again.clips[: len(clips)]
        assert known.windows[:ready] == again.answer.windows[:ready]


def test_the_first_windows_of_an_indexed_film_are_told_of_before_the_rest_is_planned(
    film: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[int | str] = []
    plan, settled = IndexedSegments.segments, Told.settled

    def planned(self: IndexedSegments, timeline: Timeline, timestamps: Sequence[float]) -> list[DecodeSegment]:
        happened.append(len(timestamps))
        return plan(self, timeline, timestamps)

    def noted(self: Told, times_s: Sequence[float]) -> None:
        if happened[-1] != "told":
            happened.append("told")
        settled(self, times_s)

    monkeypatch.setattr("service.video.probe._READ_ALL_PACKETS", 100)
    monkeypatch.setattr(IndexedSegments, "segments", planned)
    monkeypatch.setattr(Told, "settled", noted)
    again = Followed(film)
    assert happened[:4] == [256, "told", WINDOWS * SPEC.frames - 256, "told"]
    assert (again.answer.windows, again.clips) == (followed.answer.windows, followed.clips)
    for known, ready, clips in again.steps:
        assert clips == again.clips[: len(clips)]
        assert known.windows[:ready] == again.answer.windows[:ready]


def test_how_often_a_group_is_read_does_not_depend_on_how_many_of_its_frames_are_wanted(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.video.probe._READ_ALL_PACKETS", 100)
    reads: list[float] = []
    read = IndexedSegments._read

    def counted(self: IndexedSegments, bound: float, until: float) -> Any:
        reads.append(bound)
        return read(self, bound, until)

    monkeypatch.setattr(IndexedSegments, "_read", counted)
    decode_file(film, film.with_suffix(".counted"), SPEC, JobRequest(windows=WINDOWS), LIMITS)
    groups = WINDOWS * SPEC.frames * SPEC.frame_step / 30
    # Frames that are shown before a keyframe and decoded after it are looked for from both groups.
    assert groups <= len(reads) <= 2.2 * groups


def test_a_report_is_no_progress() -> None:
    assert not ProgressReader(ASKED, lambda known, ready: None).read(b'{"decoded": null}')


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("times_s",), []),
        (("times_s",), [[0.0] * SPEC.frames] * WINDOWS),
        (("times_s", 0), [0.0]),
        (("times_s", 0), [9.0, *[1.0] * (SPEC.frames - 1)]),
        (("times_s", 0, 0), "soon"),
        (("plan",), None),
        (("plan", "windows", 0, "times_s"), []),
        (("plan", "crops"), 3),
        (("plan", "video", "frames_decoded"), -1),
        (("plan", "video", "width"), 0),
        (("plan", "warnings"), [{"code": "few_frames", "detail": ""}]),
        (("plan", "boundaries"), []),
    ],
)
def test_a_first_message_that_cannot_be_so_is_not_believed(
    messages: list[dict[str, Any]], path: tuple[Any, ...], value: object
) -> None:
    at: Any = messages[0]["progress"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    told: list[int] = []
    with pytest.raises(Unbelievable):
        ProgressReader(ASKED, lambda known, ready: told.append(ready)).read(json.dumps(messages[0]).encode())
    assert not told


def test_a_second_plan_is_not_believed(messages: list[dict[str, Any]]) -> None:
    reader = ProgressReader(ASKED, lambda known, ready: None)
    first = json.dumps(messages[0]).encode()
    assert reader.read(first)
    with pytest.raises(Unbelievable, match="once"):
        reader.read(first)


def test_more_windows_than_there_are_left_are_not_believed(messages: list[dict[str, Any]]) -> None:
    reader = ProgressReader(ASKED, lambda known, ready: None)
    assert reader.read(json.dumps(messages[0]).encode())
    rest = WINDOWS - len(messages[0]["progress"]["times_s"])
    with pytest.raises(Unbelievable, match="number of complete windows"):
        reader.read(json.dumps({"progress": {"times_s": [[1.0] * SPEC.frames] * rest}}).encode())
