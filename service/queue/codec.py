"""Bytes of what the queue stores. Every value starts with its schema version, so that processes of two releases mix."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from service.contracts import SCHEMA_VERSION, ClipScores, JobResult, JobState, Timings, told
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


# Between what is said of a result and the result that is the answer to a caller as it stands.
_ANSWER = b',"result":'


class Outcome:
    """How a job ended: with a result, or with an error.

    A result that was written as the answer to a caller is read only where somebody asks for it.
    """

    def __init__(self, state: JobState, *, result: JobResult | None = None, error: VidtrError | None = None) -> None:
        self.state = state
        self.error = error
        self._result = result
        self._answer: bytes | None = None
        self._timings: Timings | None = None
        self._signature: str | None = None

    @property
    def result(self) -> JobResult | None:
        """The result; None where the job ended with an error."""
        if self._result is None and self._answer is not None:
            self._result = JobResult.model_validate_json(self._answer)
        return self._result

    @property
    def timings(self) -> Timings | None:
        """How long each stage took; None where there is no result."""
        return self._result.timings_ms if self._timings is None and self._result is not None else self._timings

    @property
    def signature(self) -> str | None:
        """That of the result; None where it has none."""
        return self._result.signature if self._signature is None and self._result is not None else self._signature

    @property
    def answer(self) -> bytes | None:
        """The result of an outcome that was read, as JSON for a caller; None where there is no result."""
        if self._answer is None and self._result is not None:
            self._answer = told(self._result, self._result).encode()
        return self._answer

    def encode(self) -> bytes:
        """JSON bytes of the outcome."""
        # Of a video without a frame rate earlier releases look for a null, which an answer leaves out.
        if self._result is not None and self._result.video.fps is not None:
            head: dict[str, Any] = {"v": SCHEMA_VERSION, "state": self.state}
            head["timings_ms"] = self._result.timings_ms.model_dump()
            if self._result.signature is not None:
                head["signature"] = self._result.signature
            answer = self._result.model_dump_json(exclude_none=True)
            return b"".join((json.dumps(head).encode()[:-1], _ANSWER, answer.encode(), b"}"))
        body: dict[str, Any] = {"v": SCHEMA_VERSION, "state": self.state}
        if self._result is not None:
            body["result"] = self._result.model_dump(mode="json")
        if self.error is not None:
            body["error"] = self.error.to_dict()
        return json.dumps(body).encode()

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """Inverse of `encode`, and of those of earlier releases."""
        head, _, answer = data.partition(_ANSWER)
        if answer:
            body = json.loads(head + b"}")
            outcome = cls(JobState(body["state"]))
            outcome._answer, outcome._timings = answer[:-1], Timings.model_validate(body["timings_ms"])
            outcome._signature = body.get("signature")
            return outcome
        body = json.loads(data)
        return cls(
            JobState(body["state"]),
            result=JobResult.model_validate(body["result"]) if "result" in body else None,
            error=error_from_dict(body["error"]) if "error" in body else None,
        )
