"""Each format, read back by the program or library that it is for, or by the rules that its reader publishes."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from typing import Any

import jsonschema
import opentimelineio as otio
import pycmx
import pytest
import srt
import webvtt

from service.contracts import Event, JobResult
from service.errors import InvalidOption, NothingToExport
from service.exports.formats import FORMATS, named
from service.exports.spans import Kind, NamedResult
from service.exports.timecode import FrameRate
from testing import answers
from testing.answers import answer, shot

MS = 0.0005 + 1e-9
# An instant, an overlap, the turn of a minute and of an hour, where drop-frame leaves numbers out.
EVENTS = (
    answers.event("cut", 2.48),
    answers.event("pan_right", 3.1234, 5.0),
    answers.event("zoom_in", 4.5, 61.07),
    answers.event("tilt_up", 3599.96, 3605.5, score=0.41),
)
SHOTS = (shot(0.0, 2.48, "static", "start"), shot(2.48, 60.0, "pan_right"), shot(60.0, 4000.0, "zoom_in", "dissolve"))
RATES = (23.976, 25.0, 29.97)


def film(events: tuple[Event, ...] = EVENTS, **changes: Any) -> JobResult:
    return answer(events, duration_s=4000.0, **changes)


def written(form: str, result: JobResult, kind: Kind = "events", name: str = "a film.mp4") -> str:
    return named(form).write([NamedResult(name, result)], kind)


def captions_of(text: str) -> list[Any]:
    captions: Any = webvtt.from_string(text)  # iterable, but not by its annotations
    return list(captions)


def edits_of(text: str) -> list[pycmx.Edit]:
    return [edit for each in pycmx.parse_cmx3600(io.StringIO(text)).events for edit in each.edits]


def test_json_is_the_answer() -> None:
    assert JobResult.model_validate_json(written("json", film())) == film()


def test_csv_has_a_row_for_each_event() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", film()))))
    assert [row["label"] for row in rows] == [event.label for event in EVENTS]
    for row, event in zip(rows, EVENTS, strict=True):
        assert float(row["start_s"]) == pytest.approx(event.start_s, abs=MS)
        assert float(row["end_s"]) == pytest.approx(max(event.end_s, event.start_s + 0.04), abs=MS)
        assert float(row["peak_s"]) == pytest.approx(event.peak_s, abs=MS)
        assert float(row["score"]) == event.score
        assert row["file"] == "a film.mp4"


def test_webvtt_has_a_cue_for_each_event() -> None:
    captions = captions_of(written("vtt", film()))
    assert [caption.text for caption in captions] == ["cut 93%", "pan right 93%", "zoom in 93%", "tilt up 41%"]
    for caption, event in zip(captions, EVENTS, strict=True):
        assert caption.start_time.in_seconds() == int(event.start_s)
        assert caption.start_in_seconds + caption.start_time.milliseconds / 1000 == pytest.approx(event.start_s, abs=MS)
        assert caption.end_in_seconds + caption.end_time.milliseconds / 1000 == pytest.approx(
            max(event.end_s, event.start_s + 0.04), abs=MS
        )


def test_a_label_cannot_end_a_cue_of_webvtt_or_start_a_tag() -> None:
    text = written("vtt", film((answers.event("<b>&\n\n00:00 --> 00:01", 1.0, 2.0),)))
    [caption] = captions_of(text)
    assert "&lt;b&gt;&amp; 00:00 --&gt; 00:01" in text
    assert caption.end_in_seconds == 2


def test_subrip_has_a_block_for_each_event() -> None:
    blocks = list(srt.parse(written("srt", film())))
    assert [block.content for block in blocks] == ["cut 93%", "pan right 93%", "zoom in 93%", "tilt up 41%"]
    for block, event in zip(blocks, EVENTS, strict=True):
        assert block.start.total_seconds() == pytest.approx(event.start_s, abs=MS)
        assert block.end.total_seconds() == pytest.approx(max(event.end_s, event.start_s + 0.04), abs=MS)


@pytest.mark.parametrize("fps", RATES)
def test_an_edl_has_an_edit_for_each_event_with_its_frames(fps: float) -> None:
    rate = FrameRate.nearest(fps)
    text = written("edl", film(fps=fps))
    [track] = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate.fps)).video_tracks()
    clips = list(track.find_clips())
    assert len(clips) == len(EVENTS)
    for clip, event in zip(clips, EVENTS, strict=True):
        assert clip.name == "a film.mp4"
        start, end = clip.source_range.start_time.value, clip.source_range.end_time_exclusive().value
        assert abs(start * rate.frame_s - event.start_s) <= rate.frame_s / 2
        assert abs(end * rate.frame_s - max(event.end_s, event.start_s + rate.frame_s)) <= rate.frame_s / 2 + 1e-9


@pytest.mark.parametrize(("fps", "drop"), [(25.0, "NON-DROP FRAME"), (29.97, "DROP FRAME")])
def test_the_edits_of_an_edl_follow_each_other_from_one_hour_on(fps: float, drop: str) -> None:
    text = written("edl", film(fps=fps))
    assert f"FCM: {drop}\n" in text
    parsed = pycmx.parse_cmx3600(io.StringIO(text))
    edits = edits_of(text)
    assert parsed.title == "a film"
    assert edits[0].record_in.replace(";", ":") == "01:00:00:00"
    assert [edit.record_in for edit in edits[1:]] == [edit.record_out for edit in edits[:-1]]
    assert edits[-1].source_in == ("00:59:59;29" if drop == "DROP FRAME" else "00:59:59:24")


def test_a_locator_names_each_event_at_its_peak() -> None:
    [track] = otio.adapters.read_from_string(written("edl", film()), "cmx_3600", rate=25.0).video_tracks()
    clip = list(track.find_clips())[1]
    [marker] = clip.markers
    assert marker.name == "pan right 93%"
    peak_s = (EVENTS[1].start_s + EVENTS[1].end_s) / 2
    into = marker.marked_range.start_time.value - 25 * 3600 - 1
    assert into / 25 == pytest.approx(peak_s - EVENTS[1].start_s, abs=0.04)


@pytest.mark.parametrize("fps", RATES)
def test_a_timeline_has_the_shots_as_clips_and_the_events_as_markers(fps: float) -> None:
    rate = FrameRate.nearest(fps)
    timeline = otio.adapters.read_from_string(written("otio", film(fps=fps, shots=SHOTS)), "otio_json")
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == ["static", "pan_right", "zoom_in"]
    assert timeline.duration().to_seconds() == pytest.approx(4000, abs=rate.frame_s)
    for clip, made in zip(clips, SHOTS, strict=True):
        at = timeline.tracks[0].range_of_child(clip)
        assert at.start_time.to_seconds() == pytest.approx(made.start_s, abs=rate.frame_s)
        assert clip.source_range == at
        assert clip.media_reference.target_url == "a film.mp4"
    for marker, event in zip(timeline.tracks.markers, EVENTS, strict=True):
        assert marker.marked_range.start_time.to_seconds() == pytest.approx(event.start_s, abs=rate.frame_s)
        end = marker.marked_range.end_time_exclusive().to_seconds()
        assert end == pytest.approx(max(event.end_s, event.start_s + rate.frame_s), abs=rate.frame_s)
        assert marker.metadata["vidtr"]["label"] == event.label


def test_a_timeline_of_a_range_keeps_the_rest_of_the_film() -> None:
    shots = (shot(10.0, 20.0, "static", "start"),)
    timeline = otio.adapters.read_from_string(written("otio", film(shots=shots)), "otio_json")
    assert [clip.duration().to_seconds() for clip in timeline.find_clips()] == [10.0, 10.0, 3980.0]


def segments_by_the_rules_of_activitynet(text: str) -> dict[str, list[tuple[str, float, float, float]]]:
    """As `eval_detection.py` of the challenge imports predictions; the program itself is in no package index."""
    document = json.loads(text)
    assert all(field in document for field in ("results", "version", "external_data"))
    return {
        video: [
            (found["label"], float(found["segment"][0]), float(found["segment"][1]), found["score"]) for found in all_of
        ]
        for video, all_of in document["results"].items()
    }


def test_activitynet_reads_a_segment_for_each_event() -> None:
    [(video, segments)] = segments_by_the_rules_of_activitynet(written("activitynet", film())).items()
    assert video == "a film"
    for (label, start, end, score), event in zip(segments, EVENTS, strict=True):
        assert (label, score) == (event.label, event.score)
        assert start == pytest.approx(event.start_s, abs=MS)
        assert end > start, "an empty segment has no overlap with anything"


# The schema of a region, as `TimelineLabelsTag.to_json_schema` of label-studio-sdk 2.1 gives it. The package itself
# pins versions of NumPy and OpenCV that the project does not run on, and installs half a gigabyte.
TIMELINE_REGION = {
    "type": "object",
    "required": ["from_name", "to_name", "type", "value"],
    "properties": {
        "from_name": {"const": "events"},
        "to_name": {"const": "video"},
        "type": {"const": "timelinelabels"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "value": {
            "type": "object",
            "required": ["ranges", "timelinelabels"],
            "additionalProperties": False,
            "properties": {
                "ranges": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["start", "end"],
                        "additionalProperties": False,
                        "properties": {"start": {"type": "integer", "minimum": 1}, "end": {"type": "integer"}},
                    },
                },
                "timelinelabels": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
        },
    },
}


@pytest.mark.parametrize("fps", RATES)
def test_label_studio_has_a_region_of_frames_for_each_event(fps: float) -> None:
    [task] = json.loads(written("label-studio", film(fps=fps)))
    assert task["data"] == {"video": "a film.mp4", "fps": fps}
    [prediction] = task["predictions"]
    assert prediction["model_version"] == "camera_motion:3"
    for region, event in zip(prediction["result"], EVENTS, strict=True):
        jsonschema.validate(region, TIMELINE_REGION)
        [frames] = region["value"]["ranges"]
        # Counted from 1, the last one included.
        assert (frames["start"] - 1) / fps == pytest.approx(event.start_s, abs=0.5 / fps + 1e-9)
        assert frames["end"] / fps == pytest.approx(max(event.end_s, event.start_s + 1 / fps), abs=0.5 / fps + 1e-9)


def detections_by_the_rules_of_fiftyone(
    text: str, duration_s: float, frames: int
) -> list[tuple[str, list[int], float]]:
    """As `FiftyOneTemporalDetectionSampleParser` of fiftyone 1.22 reads a video; the package needs a MongoDB to run."""
    document = json.loads(text)
    found = []
    for entry in document["labels"]["a film"]:
        label = document["classes"][entry["label"]] if document["classes"] else str(entry["label"])
        support = [
            min(max(1, int(Fraction(round(time * 1000), 1000) * (frames - 1) / Fraction(duration_s)) + 1), frames)
            for time in entry["timestamps"]
        ]
        found.append((label, support, entry["confidence"]))
    return found


def test_fiftyone_has_a_temporal_detection_for_each_event() -> None:
    detections = detections_by_the_rules_of_fiftyone(written("fiftyone", film()), 4000.0, 100_000)
    for (label, (first, last), confidence), event in zip(detections, EVENTS, strict=True):
        assert (label, confidence) == (event.label, event.score)
        assert abs((first - 1) / 25 - event.start_s) <= 2 / 25
        assert abs(last / 25 - max(event.end_s, event.start_s + 1 / 25)) <= 2 / 25


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "json"])
def test_the_events_of_a_file_without_any_are_an_empty_file_of_the_format(form: str) -> None:
    text = written(form, film(()))
    readers: dict[str, Any] = {
        "csv": lambda: list(csv.DictReader(io.StringIO(text))),
        "vtt": lambda: captions_of(text),
        "srt": lambda: list(srt.parse(text)),
        "edl": lambda: edits_of(text),
        "otio": lambda: list(otio.adapters.read_from_string(text, "otio_json").tracks.markers),
        "activitynet": lambda: json.loads(text)["results"]["a film"],
        "label-studio": lambda: json.loads(text)[0]["predictions"][0]["result"],
        "fiftyone": lambda: json.loads(text)["labels"]["a film"],
    }
    assert readers[form]() == []


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "json"])
def test_an_answer_without_events_is_refused_with_what_to_do(form: str) -> None:
    with pytest.raises(NothingToExport, match=r"no `events`.*windows=all.*JSON"):
        written(form, answer(None))


@pytest.mark.parametrize("form", [form for form, each in FORMATS.items() if form != "json"])
def test_shots_are_refused_where_they_were_not_looked_for(form: str) -> None:
    with pytest.raises(NothingToExport, match="windows=all"):
        written(form, film(), "shots")


def test_shots_are_written_in_place_of_events() -> None:
    captions = captions_of(written("vtt", film(shots=SHOTS), "shots"))
    assert [caption.text for caption in captions] == ["static 90%", "pan right 90%", "zoom in 90%"]


def test_a_shot_without_a_label_has_its_number() -> None:
    shots = (SHOTS[0].model_copy(update={"predictions": ()}),)
    assert "shot 1" in written("vtt", film(shots=shots), "shots")


def test_several_videos_share_a_file_where_the_format_has_room() -> None:
    videos = [NamedResult(f"{name}.mp4", film()) for name in ("one", "two")]
    assert set(json.loads(FORMATS["activitynet"].write(videos, "events"))["results"]) == {"one", "two"}
    assert [each["file"] for each in json.loads(FORMATS["json"].write(videos, "events"))] == ["one.mp4", "two.mp4"]


def test_a_name_with_line_ends_stays_on_one_line_of_an_edl() -> None:
    text = written("edl", film(EVENTS[:1]), name="film\n002  AX  V  C\n.mp4")
    assert len(edits_of(text)) == 1


def test_an_unknown_format_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(InvalidOption, match=r"`format` must be one of json, csv, vtt, .*, not 'pdf'"):
        named("pdf")
