"""The examples of batches in the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from service.api.openapi_examples import RESULT_EXAMPLE, named

_ID = "3c1f0a5de2b94e6f8a7d6c5b4a392817"
_LINES: list[dict[str, Any]] = [
    {"id": "opening", "source": {"url": "https://example.com/opening.mp4"}},
    {"source": {"url": "s3://films/chase.mp4"}, "options": {"windows": "all", "top_k": 3}},
]


def _batch(status: str, counts: dict[str, int], **more: Any) -> dict[str, Any]:
    none = {"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    return {
        "id": _ID,
        "status": status,
        "counts": {"total": 2, **none, **counts},
        "created_at": 1767225600.0,
        "expires_at": 1767398400.0,
        "links": {"self": f"/v1/batches/{_ID}", "results": f"/v1/batches/{_ID}/results"},
        **more,
    }


_RUNNING = _batch("running", {"running": 1, "succeeded": 1}, started_at=1767225600.1)
_COMPLETED = _batch("completed", {"succeeded": 1, "failed": 1}, started_at=1767225600.1, ended_at=1767225660.0)
_ERROR = {"code": "source_refused", "detail": "The bucket has no such object, or does not exist.", "actual": 404}
_RESULTS: list[dict[str, Any]] = [
    {"seq": 1, "line": 1, "id": "opening", "url": "https://example.com/opening.mp4", "status": "succeeded"}
    | {"job": RESULT_EXAMPLE["id"], "result": RESULT_EXAMPLE},
    {"seq": 2, "line": 2, "url": "s3://films/chase.mp4", "status": "failed", "error": _ERROR},
]


def _jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


_JSONL = {"schema": {"type": "string"}, **named(two_videos=("A web server and a bucket", _jsonl(_LINES)))}
MANIFEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/jsonl": _JSONL,
        "application/x-ndjson": _JSONL,
        "text/csv": {
            "schema": {"type": "string"},
            **named(
                two_videos=(
                    "A column for each option",
                    "url,id,windows\nhttps://example.com/opening.mp4,opening,\ns3://films/chase.mp4,,all\n",
                )
            ),
        },
    },
}
BATCHES = named(running=("One line has ended", _RUNNING), completed=("All lines have ended", _COMPLETED))
# OpenAPI leaves out nulls, such as the cursor of the last page.
BATCH_PAGES = named(
    first_page=("The newest batch, with more to come", {"batches": [_COMPLETED], "next_cursor": "1767398400.000000"})
)
RESULT_LINES = named(two_lines=("A result and an error", _jsonl(_RESULTS)))
