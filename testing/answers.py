"""Answers with events and shots, made as a worker would give them, for tests of what shows and exports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.contracts import (
    Event,
    FrameAttention,
    JobResult,
    LabelShare,
    ModelRef,
    Prediction,
    Shot,
    Timings,
    VideoInfo,
    VideoSummary,
    WindowResult,
)

LABELS = ("cut", "pan_right", "zoom_in", "tilt_up", "static")


def event(label: str, start_s: float, end_s: float | None = None, *, score: float = 0.93) -> Event:
    """An event; an instant where `end_s` is None."""
    end_s = start_s if end_s is None else end_s
    index = LABELS.index(label) if label in LABELS else 0
    return Event(label=label, index=index, start_s=start_s, end_s=end_s, peak_s=(start_s + end_s) / 2, score=score)


def prediction(label: str, score: float = 0.9, *, passes: bool = True) -> Prediction:
    """A label beside a threshold of one half."""
    return Prediction(label=label, index=LABELS.index(label), score=score, threshold=0.5, passes=passes)


def shot(start_s: float, end_s: float, label: str, transition: str = "cut") -> Shot:
    """A shot of one label."""
    predictions = (prediction(label),)
    return Shot.model_validate(
        {
            "start_s": start_s,
            "end_s": end_s,
            "key_s": (start_s + end_s) / 2,
            "transition": transition,
            "predictions": predictions,
        }
    )


def window(start_s: float, end_s: float, label: str, frames: int = 8) -> WindowResult:
    """A window of one label, whose attention rises towards its middle."""
    weights = [1.0 + min(t, frames - 1 - t) for t in range(frames)]
    attention = tuple(
        FrameAttention(
            time_s=start_s + (end_s - start_s) * t / frames, frame=t, score=weight / sum(weights), retention=1.0
        )
        for t, weight in enumerate(weights)
    )
    return WindowResult(
        start_s=start_s, end_s=end_s, predictions=(prediction(label),), attention=attention, abstained=False
    )


def summary(events: Sequence[Event], duration_s: float, qualifiers: Sequence[str] = ()) -> VideoSummary:
    """Shares of the events, as `service.aggregate` adds them up, for events of a label that do not overlap."""
    labels = dict.fromkeys(event.label for event in events)
    shares = []
    for label in labels:
        own = [event for event in events if event.label == label]
        seconds = sum(event.end_s - event.start_s for event in own)
        shares.append(
            LabelShare(
                label=label,
                index=own[0].index,
                duration_s=seconds,
                share=seconds / duration_s,
                events=len(own),
                qualifier=label in qualifiers,
            )
        )
    shares.sort(key=lambda share: (share.qualifier, -share.share))
    free = max(0.0, 1.0 - sum(share.share for share in shares if not share.qualifier))
    return VideoSummary(basis="events", shares=tuple(shares), unlabeled_share=free)


def answer(
    events: Sequence[Event] | None = (),
    *,
    duration_s: float = 10.0,
    fps: float | None = 25.0,
    qualifiers: Sequence[str] = (),
    **changes: Any,
) -> JobResult:
    """The answer for a video with these events; without them, that of a model that has no thresholds."""
    values: dict[str, Any] = {
        "id": "6e3866b0abf04969a7e06d2c3a12ebe7",
        "model": ModelRef(name="camera_motion", version="3", trained=True, weights_sha256="0" * 64),
        "coverage": 1.0,
        "video": VideoInfo(
            duration_s=duration_s,
            width=640,
            height=360,
            fps=fps,
            container="mp4",
            codec="h264",
            rotation=0,
            frames_decoded=100,
        ),
        "predictions": (prediction("static"),),
        "windows": (window(0.0, duration_s, "static"),),
        "timings_ms": Timings(upload=1.0, decode=20.0, queue=1.0, inference=8.0, total=31.0),
        "abstained": False,
        "events": None if events is None else tuple(events),
        "summary": None if events is None else summary(events, duration_s, qualifiers),
    }
    return JobResult(**{**values, **changes})
