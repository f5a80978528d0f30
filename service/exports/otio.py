"""OpenTimelineIO: the film cut at its shots, with a marker for each event.

The schema is written plainly, because the library is a compiled one without wheels for every Python that the client
supports; the tests read it back with the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from service.exports.spans import Kind, NamedResult, Span
from service.exports.timecode import FrameRate

_RED, _GREEN = "RED", "GREEN"


def opentimeline(video: NamedResult, kind: Kind) -> str:
    """The timeline. It holds shots and events alike; `kind` is what it cannot do without."""
    spans = video.spans(kind)
    events = spans if kind == "events" else video.spans("events") if video.result.events is not None else []
    film = Span(video.stem, 0.0, video.result.video.duration_s, 0.0, 0.0)
    shots = spans if kind == "shots" else video.spans("shots") if video.result.shots else [film]
    rate = video.rate
    track: dict[str, Any] = {
        "OTIO_SCHEMA": "Track.1",
        "name": "V1",
        "kind": "Video",
        "children": [_clip(video, shot, rate) for shot in _within(shots, film)],
        "source_range": None,
        "effects": [],
        "markers": [],
        "enabled": True,
        "metadata": {},
    }
    stack: dict[str, Any] = {
        "OTIO_SCHEMA": "Stack.1",
        "name": "tracks",
        "children": [track],
        "source_range": None,
        "effects": [],
        "markers": [_marker(event, rate) for event in events],
        "enabled": True,
        "metadata": {},
    }
    model = video.result.model
    document = {
        "OTIO_SCHEMA": "Timeline.1",
        "name": video.stem,
        "global_start_time": None,
        "tracks": stack,
        "metadata": {"vidtr": {"id": video.result.id, "model": model.name, "version": model.version}},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _within(shots: list[Span], film: Span) -> Iterable[Span]:
    """The shots with what no shot holds between them, such as what lies outside the range that was asked for."""
    at = 0.0
    for shot in shots:
        if shot.start_s > at:
            yield Span(film.label, at, shot.start_s, at, 0.0)
        yield shot
        at = shot.end_s
    if film.end_s > at:
        yield Span(film.label, at, film.end_s, at, 0.0)


def _clip(video: NamedResult, shot: Span, rate: FrameRate) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "Clip.2",
        "name": shot.label,
        "source_range": _range(shot, rate),
        "effects": [],
        "markers": [],
        "enabled": True,
        "media_references": {
            "DEFAULT_MEDIA": {
                "OTIO_SCHEMA": "ExternalReference.1",
                "name": video.title,
                "target_url": video.title,
                "available_range": _range(Span("", 0.0, video.result.video.duration_s, 0.0, 0.0), rate),
                "available_image_bounds": None,
                "metadata": {},
            }
        },
        "active_media_reference_key": "DEFAULT_MEDIA",
        "metadata": {"vidtr": {"score": shot.score, "key_s": shot.peak_s}},
    }


def _marker(event: Span, rate: FrameRate) -> dict[str, Any]:
    instant = rate.frame(event.end_s) - rate.frame(event.start_s) <= 1
    return {
        "OTIO_SCHEMA": "Marker.2",
        "name": event.title,
        "color": _RED if instant else _GREEN,
        "comment": "",
        "marked_range": _range(event, rate),
        "metadata": {"vidtr": {"label": event.label, "score": event.score, "peak_s": event.peak_s}},
    }


def _range(span: Span, rate: FrameRate) -> dict[str, Any]:
    start = rate.frame(span.start_s)
    length = max(1, rate.frame(span.end_s) - start)
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": _time(start, rate), "duration": _time(length, rate)}


def _time(frames: int, rate: FrameRate) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate.fps), "value": float(frames)}
