"""Bytes of what the queue stores. Every value starts with its schema version, so that processes of two releases mix."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from service.contracts import SCHEMA_VERSION, ClipScores, JobResult, JobState
from service.errors import VidtrError, error_from_dict

FLOAT = np.dtype("<f4")


def encode_scores(scores: ClipScores) -> bytes:
    """A JSON header line with the sizes of all outputs, then the outputs as little-endian FP32.

    What releases have added comes last, and its size has a name of its own: earlier ones read what stands before it.
    """
    header = {
        "v": SCHEMA_VERSION,
        "k": len(scores.logits),
        "t": len(scores.temporal_attention),
        "l": len(scores.layer_attention),
        "d": len(scores.embedding),
        "s": len(scores.spatial_attention),
        "queue_ms": scores.queue_ms,
        "inference_ms": scores.inference_ms,
        "engine_ms": scores.engine_ms,
    }
    attention = (scores.temporal_attention, scores.layer_attention, scores.layer_retention)
    parts = (scores.logits, *attention, scores.embedding, scores.spatial_attention)
    body = b"".join(np.asarray(part, dtype=FLOAT).tobytes() for part in parts)
    return json.dumps(header).encode() + b"\n" + body


def decode_scores(data: bytes) -> ClipScores:
    """Inverse of `encode_scores`."""
    head, _, body = data.partition(b"\n")
    header = json.loads(head)
    k, t, layers = header["k"], header["t"], header["l"]
    end = k + t + 2 * layers * t
    embedded = end + header.get("d", 0)
    values = np.frombuffer(body, dtype=FLOAT, count=embedded + header.get("s", 0))
    by_layer = values[k + t : end].reshape(2, layers, t).tolist()
    return ClipScores(
        logits=tuple(values[:k].tolist()),
        temporal_attention=tuple(values[k : k + t].tolist()),
        layer_attention=tuple(map(tuple, by_layer[0])),
        layer_retention=tuple(map(tuple, by_layer[1])),
        embedding=tuple(values[end:embedded].tolist()),
        spatial_attention=tuple(values[embedded:].tolist()),
        queue_ms=header["queue_ms"],
        inference_ms=header["inference_ms"],
        engine_ms=header.get("engine_ms", 0.0),
    )


class Outcome:
    """How a job ended: with a result, or with an error."""

    def __init__(self, state: JobState, *, result: JobResult | None = None, error: VidtrError | None = None) -> None:
        self.state = state
        self.result = result
        self.error = error

    def encode(self) -> bytes:
        """JSON bytes of the outcome."""
        body: dict[str, Any] = {"v": SCHEMA_VERSION, "state": self.state}
        if self.result is not None:
            body["result"] = self.result.model_dump(mode="json")
        if self.error is not None:
            body["error"] = self.error.to_dict()
        return json.dumps(body).encode()

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """Inverse of `encode`."""
        body = json.loads(data)
        return cls(
            JobState(body["state"]),
            result=JobResult.model_validate(body["result"]) if "result" in body else None,
            error=error_from_dict(body["error"]) if "error" in body else None,
        )
