"""How a batch stands, as its hash in Redis says."""

from __future__ import annotations

from dataclasses import dataclass

from service.contracts import BatchLine, BatchRecord, BatchState, LineOutcome

COUNTS = ("left", "succeeded", "failed", "cancelled")
FIELDS = ("record", "created_at", "started_at", "ended_at", "cancelled_at", "delivered_at", "undelivered", *COUNTS)


@dataclass(frozen=True)
class BatchFacts:
    """How a batch stands. Times are Unix seconds of Redis."""

    record: BatchRecord
    created_at: float
    started_at: float | None
    ended_at: float | None
    cancelled_at: float | None
    delivered_at: float | None
    """when the results were in the bucket of its destination"""
    undelivered: str | None
    """why they are not there"""
    left: int
    """lines that have not ended"""
    running: int
    succeeded: int
    failed: int
    cancelled: int

    @property
    def closes(self) -> bool:
        """Whether something is to be done when its lines have ended."""
        return self.record.destination is not None or self.record.webhook is not None

    @property
    def state(self) -> BatchState:
        """Where it stands."""
        if self.cancelled_at is not None and (self.cancelled or self.ended_at is None):
            return BatchState.CANCELLED
        if self.ended_at is not None:
            return BatchState.COMPLETED
        return BatchState.QUEUED if self.started_at is None else BatchState.RUNNING


@dataclass(frozen=True)
class EndedLine:
    """A line with its outcome; `seq` counts the lines in the order in which they ended, from 1."""

    seq: int
    line: BatchLine
    outcome: LineOutcome


def read(fields: list[bytes | None], running: int) -> BatchFacts | None:
    """From the values of `FIELDS`, and how many lines run; None where there is no such batch."""
    found = dict(zip(FIELDS, fields, strict=True))
    if found["record"] is None:
        return None
    times = {name: None if (at := found[name]) is None else float(at) for name in FIELDS if name.endswith("_at")}
    counts = {name: int(found[name] or 0) for name in COUNTS}
    undelivered = found["undelivered"]
    return BatchFacts(
        record=BatchRecord.model_validate_json(found["record"]),
        created_at=times["created_at"] or 0.0,
        started_at=times["started_at"],
        ended_at=times["ended_at"],
        cancelled_at=times["cancelled_at"],
        delivered_at=times["delivered_at"],
        undelivered=None if undelivered is None else undelivered.decode(),
        running=running,
        **counts,
    )
