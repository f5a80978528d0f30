"""Shapes that only the api knows, and the examples that the OpenAPI document shows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from service.contracts import JobRequest
from service.queue.events import EVENT_ID


def shaped(pattern: re.Pattern[str]) -> dict[str, JsonValue]:
    """The OpenAPI pattern of a parameter that is checked by our own code, which has better words."""
    return {"pattern": f"^{pattern.pattern}$"}


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ClassifyOptions(JobRequest):
    """Query parameters of a classification; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crops: Annotated[Literal[1, 3], BeforeValidator(_number)] = Field(1, description="spatial crops of each window")


class Health(BaseModel):
    """Answer of a health route; `checks` names each dependency and what is wrong with it, or `ok`."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}
    sandbox: list[str] = Field([], description="what shuts decode processes in, at `/health/ready`")


RESULT_EXAMPLE: dict[str, Any] = {
    "id": "7d0e6f0b6a3c4c0c9f0e5c1d2b3a4f5e",
    "status": "succeeded",
    "model": {"name": "camera_motion", "version": "1", "trained": True, "weights_sha256": "9f86d081884c7d65…"},
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
    "warnings": [],
    "abstained": False,
}

# In OpenAPI 3.1 the schema of an event stream is that of each event; `data` is JSON.
STREAMED_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", **shaped(EVENT_ID)},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {"file": {"type": "string", "format": "binary", "description": "the video"}},
                }
            },
            "video/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
