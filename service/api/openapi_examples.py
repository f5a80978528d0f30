"""The named examples of the OpenAPI document: requests, answers and what they are about."""

from __future__ import annotations

import json
from typing import Any

RESULT_EXAMPLE: dict[str, Any] = {
    "id": "7d0e6f0b6a3c4c0c9f0e5c1d2b3a4f5e",
    "status": "succeeded",
    "model": {
        "name": "camera_motion",
        "version": "1",
        "trained": True,
        "weights_sha256": "9f86d081884c7d65…",
        "arithmetic": "fp32",
    },
    "coverage": 1.0,
    "video": {
        "duration_s": 1.0,
        "width": 640,
        "height": 360,
        "fps": 29.97,
        "container": "mp4",
        "codec": "h264",
        "rotation": 0,
        "frames_decoded": 29,
    },
    "predictions": [{"label": "pan_left", "index": 1, "score": 0.93, "threshold": 0.41, "passes": True}],
    "windows": [
        {
            "start_s": 0.0,
            "end_s": 1.0,
            "predictions": [{"label": "pan_left", "index": 1, "score": 0.93, "threshold": 0.41, "passes": True}],
            "attention": [
                {"time_s": 0.0, "frame": 0, "score": 0.11, "retention": 1.0},
                {"time_s": 0.5, "frame": 1, "score": 0.89, "retention": 1.0},
            ],
            "abstained": False,
        }
    ],
    "timings_ms": {"upload": 1.2, "decode": 38.0, "queue": 0.9, "inference": 21.0, "total": 64.0},
    "provenance": {
        "options": {
            "top_k": 1,
            "min_score": 0.0,
            "windows": "auto",
            "split": "none",
            "crops": 1,
            "attention": "frames",
            "evidence": "none",
            "evidence_orders": 32,
            "embedding": False,
        },
        "video_sha256": "2c26b46b68ffc68ff99b453c1d304134…",
        "release": "0.3.0",
    },
    "warnings": [],
    "abstained": False,
    "events": [
        {"label": "pan_left", "index": 1, "start_s": 0.12, "end_s": 0.9, "peak_s": 0.5, "score": 0.93},
    ],
    "summary": {
        "basis": "mean",
        "shares": [
            {"label": "pan_left", "index": 1, "duration_s": 0.78, "share": 0.78, "events": 1, "qualifier": False}
        ],
        "unlabeled_share": 0.22,
    },
}

# What each format of `GET /v1/jobs/{id}/result` begins with, in the words of `docs/api.md`.
EXPORT_EXAMPLES: dict[str, str] = {
    "text/csv": "file,label,start_s,end_s,peak_s,score\nfilm.mp4,pan_right,3.04,5.12,4.2,0.93\n",
    "text/vtt": "WEBVTT\n\n1\n00:00:03.040 --> 00:00:05.120\npan right 93%\n",
    "application/x-subrip": "1\n00:00:03,040 --> 00:00:05,120\npan right 93%\n\n",
    "text/x-edl": "TITLE: film\nFCM: NON-DROP FRAME\n\n"
    "001  AX       V     C        00:00:03:01 00:00:05:03 01:00:00:00 01:00:02:02\n"
    "* LOC: 01:00:01:04 GREEN   pan right 93%\n* FROM CLIP NAME: film.mp4\n",
}

_JOB_ID = str(RESULT_EXAMPLE["id"])
_UPLOAD_ID = "0f9a52f7c1d94f1c8c2f2f5d7d1f8a35"
_CURSOR = "00001767225600000-7d0e6f0b6a3c4c0c9f0e5c1d2b3a4f5e"


def named(**examples: tuple[str, Any]) -> dict[str, Any]:
    """OpenAPI's `examples` of a content, from a summary and a value of each."""
    return {"examples": {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}}


def _job(status: str, done: int, **more: Any) -> dict[str, Any]:
    return {
        "id": _JOB_ID,
        "status": status,
        "created_at": 1767225600.0,
        "deadline_at": 1767225900.0,
        "clips_total": 1,
        "clips_done": done,
        "model": "camera_motion",
        "version": "3",
        **more,
    }


def _event(event: str, data: dict[str, Any], number: str | None = None) -> dict[str, Any]:
    return {**({} if number is None else {"id": number}), "event": event, "data": json.dumps(data)}


_TOO_SHORT = {
    "code": "video_too_short",
    "detail": "Only 2 different frames can be sampled from 0.067 s of video; at least 4 are needed, 0.133 s apart. "
    "Send a longer piece.",
    "limit": 4,
    "actual": 2,
}
_PREDICTION = {"label": "zoom_in", "index": 5, "score": 0.22, "threshold": 0.47, "passes": False}
_NOTHING_CLEAR = {
    **RESULT_EXAMPLE,
    "predictions": [_PREDICTION],
    "windows": [{**RESULT_EXAMPLE["windows"][0], "predictions": [_PREDICTION], "abstained": True}],
    "abstained": True,
    "events": [],
    "summary": {"basis": "mean", "shares": [], "unlabeled_share": 1.0},
}

ANSWERS = named(
    one_window=("A second of video in which the camera pans", RESULT_EXAMPLE),
    nothing_clear=("No label passes its threshold", _NOTHING_CLEAR),
)
STREAM = named(
    uploaded=("The upload is complete", _event("uploaded", {"id": _JOB_ID, "bytes": 1048576})),
    running=("A worker scores it", _event("running", _job("running", 0), "1767225600123-0")),
    result=("The answer, which is the last event", _event("result", RESULT_EXAMPLE)),
    problem=("A refusal, which is the last event", _event("problem", {"status": 422, **_TOO_SHORT})),
)
FOLLOWED = named(
    running=("A worker scores it", _event("running", _job("running", 0), "1767225600123-0")),
    succeeded=("The job has ended", _event("succeeded", _job("succeeded", 1), "1767225601456-0")),
)
ACCEPTED = named(queued=("It waits for a worker", _job("queued", 0)))
JOBS = named(
    running=("Some clips are scored", _job("running", 0)),
    succeeded=("With its answer", _job("succeeded", 1, result=RESULT_EXAMPLE)),
    failed=("With its error", _job("failed", 0, error=_TOO_SHORT)),
)
# OpenAPI leaves out nulls, such as the cursor of the last page.
JOB_PAGES = named(
    first_page=("The newest job, with more to come", {"jobs": [_job("succeeded", 1)], "next_cursor": _CURSOR}),
)
REFERENCES = named(
    source=("A video that the service fetches", {"source": {"url": "https://example.com/film.mp4"}}),
    upload=("A video that was uploaded in pieces", {"upload": _UPLOAD_ID}),
)
_FAITHFULNESS = {
    "source": "videos",
    "seen": 141,
    "clips": 120,
    "deletion_gap": 0.41,
    "deletion_gap_error": 0.09,
    "insertion_gap": 0.44,
    "insertion_gap_error": 0.1,
    "rank_correlation": 0.21,
    "rank_correlation_error": 0.08,
    "same_top_frame": 0.21,
    "stability": 0.97,
    "needs_time": [
        {"label": "pan_left", "clips": 24, "score": 0.93, "still": 0.02, "reversed": 0.01, "shuffled": 0.12}
    ],
}
MODELS = named(
    camera_motion=(
        "The model that comes with the service",
        {
            "models": [
                {
                    "name": "camera_motion",
                    "version": "3",
                    "default": True,
                    "trained": True,
                    "description": "How the camera moves",
                    "form": "cvidtr_compact",
                    "weights_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "arithmetic": "fp32",
                    "activation": "sigmoid",
                    "labels": ["static", "pan_left"],
                    "thresholds": [0.5, 0.41],
                    "qualifiers": [],
                    "frames": 8,
                    "frame_step": 8,
                    "reference_fps": 30.0,
                    "sampling": "time",
                    "span_s": 1.9,
                    "width": 112,
                    "height": 112,
                    "attention": True,
                    "spatial_grid": [14, 14],
                    "embedding": 0,
                    "faithfulness": _FAITHFULNESS,
                }
            ]
        },
    )
)
READY = named(ready=("All is well", {"status": "ok", "checks": {"redis": "ok", "model": "ok"}, "sandbox": ["seccomp"]}))
NOT_READY = named(
    no_worker=(
        "No worker is there",
        {"status": "unavailable", "checks": {"redis": "ok", "model": "no worker serves camera_motion"}, "sandbox": []},
    )
)
SIGNING_KEYS = named(
    one=(
        "Answers are signed with one key",
        {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                    "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                    "alg": "EdDSA",
                    "use": "sig",
                }
            ]
        },
    ),
    none=("Answers are not signed", {"keys": []}),
)
UPLOADS = named(
    half=(
        "Half of it has arrived",
        {"id": "0f9a52f7c1d94f1c8c2f2f5d7d1f8a35", "length": 8, "offset": 4, "expires_at": 1767312000.0},
    )
)
LIVE_STREAMS = named(
    running=(
        "A camera that sends for half a minute",
        {
            "id": "0f9a52f7c1d94f1c8c2f2f5d7d1f8a35",
            "state": "running",
            "created_at": 1767225600.0,
            "model": "camera_motion",
            "version": "1",
            "span_s": 2.0,
            "step_s": 1.0,
            "max_s": 14400.0,
            "received": 7340032,
            "windows": 27,
            "dropped": 0,
            "position_s": 29.0,
            "delay_s": 0.21,
            "errors": 0,
            "media_url": "/v1/streams/0f9a52f7c1d94f1c8c2f2f5d7d1f8a35/media",
            "events_url": "/v1/streams/0f9a52f7c1d94f1c8c2f2f5d7d1f8a35/events",
        },
    )
)
LIVE_REQUESTS = named(
    camera=("A camera that sends, two windows a second", {"step": 0.5}),
    source=("A stream that the service fetches", {"source": {"url": "https://example.com/live.m3u8"}}),
    webhook=("A camera whose events go to a URL", {"webhook": "https://example.com/hook"}),
)
LIVE_EVENTS = named(
    dropped=(
        "The engine was too slow for a window",
        {
            "id": "1767225601456-0",
            "event": "dropped",
            "data": json.dumps({"from_s": 4.0, "to_s": 6.0, "why": "engine_slow", "windows": 1}),
        },
    )
)


def exported(media_type: str) -> dict[str, Any]:
    """OpenAPI's example of an answer in a format of other programs."""
    value = EXPORT_EXAMPLES.get(media_type, RESULT_EXAMPLE)
    return named(one_event=(f"An answer of one event as {media_type}", value))


def json_content(examples: dict[str, Any]) -> dict[str, Any]:
    """The entry of a response or a request whose body is JSON."""
    return {"content": {"application/json": examples}}
