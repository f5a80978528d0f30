"""Formats that hold many videos: comma-separated values, and those of annotation tools and benchmarks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from service.exports.spans import Kind, NamedResult, Span

COLUMNS = ("file", "label", "start_s", "end_s", "peak_s", "score")


def results(videos: Sequence[NamedResult], kind: Kind) -> str:
    """The answers themselves: one as it is, several as an array whose entries name their `file`."""
    documents = [{"file": v.name, **v.result.model_dump(mode="json", exclude_none=True)} for v in videos]
    if len(videos) == 1:
        del documents[0]["file"]
    return _json(documents[0] if len(videos) == 1 else documents)


def comma_separated(videos: Sequence[NamedResult], kind: Kind) -> str:
    """One row for each span, below a header (RFC 4180)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for video in videos:
        writer.writerows(
            (video.title, span.label, _ms(span.start_s), _ms(span.end_s), _ms(span.peak_s), span.score)
            for span in video.spans(kind)
        )
    return text.getvalue()


def activitynet(videos: Sequence[NamedResult], kind: Kind) -> str:
    """Detections as the evaluation of ActivityNet reads them, by the stem of each video's name."""
    found = {
        video.stem: [
            {"label": span.label, "score": span.score, "segment": [_ms(span.start_s), _ms(span.end_s)]}
            for span in video.spans(kind)
        ]
        for video in videos
    }
    return _json({"version": "VERSION 1.3", "results": found, "external_data": {"used": True, "details": "vidtr"}})


def fiftyone(videos: Sequence[NamedResult], kind: Kind) -> str:
    """`labels.json` of a `FiftyOneTemporalDetectionDataset`, whose videos lie in `data/` beside it."""
    spans = {video.stem: video.spans(kind) for video in videos}
    labels = {
        stem: [
            {
                "label": span.label,
                "timestamps": [_ms(span.start_s), _ms(span.end_s)],
                "confidence": span.score,
                "attributes": {"peak_s": _ms(span.peak_s)},
            }
            for span in found
        ]
        for stem, found in spans.items()
    }
    # Labels are written as text: `classes` is for those that are written as numbers.
    return _json({"classes": None, "labels": labels})


def label_studio(videos: Sequence[NamedResult], kind: Kind) -> str:
    """Tasks with predictions for the video timeline (`TimelineLabels`) of Label Studio."""
    return _json(
        [{"data": _task_data(video), "predictions": [label_studio_prediction(video, kind)]} for video in videos]
    )


def label_studio_prediction(
    video: NamedResult, kind: Kind = "events", *, control: str = "events", source: str = "video"
) -> dict[str, Any]:
    """The prediction for one video. `control` and `source` are the names of the tags in the labeling configuration."""
    fps = _fps(video)
    spans = video.spans(kind)
    regions = [
        {
            "id": f"{kind}-{number}",
            "from_name": control,
            "to_name": source,
            "type": "timelinelabels",
            "value": {"ranges": [_frames(span, fps)], "timelinelabels": [span.label]},
            "score": span.score,
        }
        for number, span in enumerate(spans, 1)
    ]
    model = video.result.model
    mean = sum(span.score for span in spans) / max(1, len(spans))
    return {"model_version": f"{model.name}:{model.version}", "score": round(mean, 6), "result": regions}


def _task_data(video: NamedResult) -> dict[str, Any]:
    # The configuration reads the rate from here: frames that are counted at another one lie at another time.
    return {"video": video.title, "fps": _fps(video)}


def _fps(video: NamedResult) -> float:
    return video.result.video.fps or float(video.rate.fps)


def _frames(span: Span, fps: float) -> dict[str, int]:
    """First and last frame of a span; Label Studio counts from 1 and includes both."""
    first = round(span.start_s * fps) + 1
    return {"start": first, "end": max(first, round(span.end_s * fps))}


def _ms(time_s: float) -> float:
    return round(time_s, 3)


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
