"""Shapes that only the api knows."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError

from service.api.openapi_examples import EXPORT_EXAMPLES, REFERENCES, exported
from service.api.plain_numbers import plain_number
from service.contracts import JobRequest
from service.exports.formats import FORMATS
from service.queue.events import EVENT_ID


def shaped(pattern: re.Pattern[str]) -> dict[str, JsonValue]:
    """The OpenAPI pattern of a parameter that is checked by our own code, which has better words."""
    return {"pattern": f"^{pattern.pattern}$"}


class ClassifyOptions(JobRequest):
    """Query parameters of a classification; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator(
        *("top_k", "min_score", "stride", "crops", "start", "end", "evidence_window", "evidence_orders"), mode="before"
    )
    @classmethod
    def _plain(cls, value: object) -> object:
        return plain_number(value)

    @field_validator("crops", "windows", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        # What may be a word or a number is compared as it is.
        return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class BatchOptions(ClassifyOptions):
    """Query parameters of a batch: those of its lines, and its own."""

    destination: str | None = Field(
        None, max_length=2048, description="URL of an object, `s3://…` or `gs://…`, that gets the results as JSONL"
    )
    batch_webhook: str | None = Field(
        None, max_length=2048, description="URL that gets a message when the batch has ended"
    )


class Source(BaseModel):
    """Where a video is fetched from."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=8192, description="URL of a file", examples=["https://example.com/film.mp4"])


class VideoReference(BaseModel):
    """Body of a classification of a video that is not in the request: either `source` or `upload`."""

    model_config = ConfigDict(extra="forbid")

    source: Source | None = None
    upload: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{32}$",
        description="id of a complete upload of `/v1/uploads`",
        examples=["0f9a52f7c1d94f1c8c2f2f5d7d1f8a35"],
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> VideoReference:
        if (self.source is None) == (self.upload is None):
            raise PydanticCustomError("video_reference", "Name either a source or an upload")
        return self

    @property
    def url(self) -> str:
        """That of the source; empty for an upload."""
        return "" if self.source is None else self.source.url


class Health(BaseModel):
    """Answer of a health route; `checks` names each dependency and what is wrong with it, or `ok`."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}
    sandbox: list[str] = Field([], description="what shuts decode processes in, at `/health/ready`")


class SigningKey(BaseModel):
    """A public key of Ed25519 as a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str = Field(description="the key, in base64url")
    kid: str = Field(description="its thumbprint (RFC 7638), as the header of a signature names it")
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class SigningKeySet(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: tuple[SigningKey, ...] = Field(description="that of new answers first; none where answers are not signed")


# In OpenAPI 3.1 the schema of an event stream is that of each event; `data` is JSON.
STREAMED_EVENT: dict[str, Any] = {
    "title": "StreamedEvent",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", **shaped(EVENT_ID)},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}

EXPORTED: dict[str, Any] = {
    "description": "The answer in the format asked for",
    "content": {
        form.media_type: (
            {"schema": {"type": "string"}, **exported(form.media_type)}
            if form.media_type in EXPORT_EXAMPLES
            else {"schema": {}, **exported(form.media_type)}
        )
        for form in FORMATS.values()
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
            "application/json": {"schema": {"$ref": "#/components/schemas/VideoReference"}, **REFERENCES},
        },
    }
}
