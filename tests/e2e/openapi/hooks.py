"""What schemathesis is told beside the OpenAPI document: how a video looks, and what its options mean.

Loaded by schemathesis in a process of its own (`SCHEMATHESIS_HOOKS`); `VIDEOS` names the directory of the videos.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies
from schemathesis import Case, GenerationMode, HookContext

VIDEOS = [path.read_bytes() for path in sorted(Path(os.environ["VIDEOS"]).iterdir())]
SECONDS = 1.0
"""length of each video"""

# The only strings of this format are uploads.
schemathesis.openapi.format("binary", strategies.sampled_from(VIDEOS))


@schemathesis.serializer("application/offset+octet-stream")
def piece(context: object, value: object) -> bytes:
    """A piece of an upload goes out as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/jsonl", "application/x-ndjson", "text/csv")
def manifest(context: object, value: object) -> bytes:
    """A manifest goes out as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, object]) -> None:
    """Give a valid upload options that can be met, where no schema can say which ones those are."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if case.headers is not None:
        # It is that of the piece, which no schema can say.
        case.headers.pop("Upload-Checksum", None)
    if case.operation.label != "POST /v1/classify":
        return
    query: dict[str, Any] = case.query or {}
    headers: MutableMapping[str, Any] = case.headers or {}
    # A video has a length and room for so many windows; the end comes after the start.
    if "start" in query:
        query["start"] = "0"
    if "end" in query:
        query["end"] = str(SECONDS)
    if str(query.get("windows", "")).isdecimal():
        query["windows"] = str(min(int(query["windows"]), 4))
    if "stride" in query:
        query["windows"] = "all"
        query["stride"] = "0.5"
    # The bundled model gives no embedding, and its evidence takes longer than an answer is waited for here.
    if "embedding" in query:
        query["embedding"] = "false"
    if "evidence" in query:
        query["evidence"] = "none"
    # Some names are served: the check of all others is that they are 404.
    if query.get("model", "").endswith("0"):
        query["model"] = "camera_motion"
    # Either a source or an upload; the generators of clients cannot name the members of such a schema.
    if isinstance(case.body, dict) and case.media_type == "application/json":
        case.body = {"upload": uuid4().hex}
    if "stream" in query:
        query["stream"] = "0"
    if "webhook" in query:
        query["webhook"] = "https://receiver.invalid/hook"
    # With other options a key that was used before is refused: that is what it is for.
    if "idempotency-key" in headers:
        headers["idempotency-key"] = uuid4().hex
    # A deadline of a femtosecond is valid and is missed: 504, which is no fault of the server.
    if "x-deadline-s" in headers:
        headers["x-deadline-s"] = "60"
