"""Triage of delivered clips: each is scored, or settled without the backend."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from service.errors import BackendFailed, DeadlineExceeded, VidtrError, sentence
from service.evidence import variants
from service.queue.clip_entries import ClipEntry, ClipState, Delivery
from service.queue.clip_stream import ClipStream
from service.telemetry import metrics
from service.worker.served_models import Weights


@dataclass(frozen=True)
class LoadedClip:
    """A stream entry with its clip: uint8 `[T, H, W, 3]`, where frames are left out with what is shown instead."""

    entry: ClipEntry
    frames: np.ndarray
    record: bytes | None = None
    """of the clip's job, where `ClipState` has it"""


class Verdict(Enum):
    """How to deal with a clip."""

    SCORE = auto()
    FAIL = auto()
    """it cannot be scored: its job ends with an error"""
    DROP = auto()
    """its job has ended, or is unknown"""
    SCORED_BEFORE = auto()
    """another worker has written its scores"""
    FOREIGN = auto()
    """it needs a version or weights that this worker does not serve"""


@dataclass(frozen=True)
class Triage:
    """The verdict on one stream entry."""

    entry: ClipEntry
    verdict: Verdict
    clip: LoadedClip | None = None
    """where it is to be scored"""
    error: VidtrError | None = None
    """where it fails"""


async def load(
    stream: ClipStream,
    delivery: Delivery,
    entries: Sequence[ClipEntry],
    max_deliveries: int,
    served: Collection[Weights],
    now: float,
) -> list[Triage]:
    """Fetch the clips of some entries of a delivery, and judge each at `now`, in Unix seconds of Redis.

    One round trip, or none where the clips were prefetched. `served` has name, version and SHA-256 of the weights of
    each model that this worker serves. Raises QueueUnavailable when Redis cannot be reached.
    """
    if not entries:
        return []
    with metrics.stage("batch"):
        prefetched = all(entry in delivery.prefetched for entry in entries)
        states = [delivery.prefetched[entry] for entry in entries] if prefetched else await stream.look_up(entries)
        unnamed = [entry for entry in entries if not entry.weights]
        weights = await stream.weights(unnamed) if unnamed else {}
    return [
        _judged(entry, state, entry.weights or weights[entry.job_id], max_deliveries, served, now)
        for entry, state in zip(entries, states, strict=True)
    ]


def _judged(
    entry: ClipEntry,
    state: ClipState,
    weights: str,
    max_deliveries: int,
    served: Collection[Weights],
    now: float,
) -> Triage:
    if state.job != "open":
        return Triage(entry, Verdict.DROP)
    # Even if it is scored: the answer to its job needs the labels of these weights.
    if (entry.model, entry.version, weights) not in served:
        return Triage(entry, Verdict.FOREIGN)
    if state.scored:
        return Triage(entry, Verdict.SCORED_BEFORE)
    try:
        return Triage(entry, Verdict.SCORE, clip=_loaded(entry, state, now, max_deliveries))
    except VidtrError as error:
        return Triage(entry, Verdict.FAIL, error=error)


def expiry(entry: ClipEntry, now: float) -> DeadlineExceeded | None:
    """The error of a clip whose job is too late at `now`, in Unix seconds; None where it is in time."""
    if entry.deadline_at > now:
        return None
    return DeadlineExceeded(
        "The job's deadline passed before all its clips were scored.",
        limit=round(entry.deadline_at - entry.enqueued_at, 3),
        actual=round(now - entry.enqueued_at, 3),
    )


def _loaded(entry: ClipEntry, state: ClipState, now: float, max_deliveries: int) -> LoadedClip:
    payload = state.payload
    if late := expiry(entry, now):
        raise late
    if payload is None:
        raise DeadlineExceeded("The clip is no longer in Redis: it expired or was dropped.")
    if entry.deliveries > max_deliveries:
        raise BackendFailed(
            f"The clip was delivered {entry.deliveries} times without a score; the limit is {max_deliveries}."
            f" {sentence(state.failure or 'Workers crashed while they scored it.')}",
            limit=max_deliveries,
            actual=entry.deliveries,
        )
    size = math.prod(entry.shape)
    if len(payload) != size:
        raise BackendFailed(f"The clip has {len(payload)} bytes instead of {size}.", limit=size, actual=len(payload))
    frames = np.frombuffer(payload, dtype=np.uint8).reshape(entry.shape)
    if entry.kept:
        [frames] = variants(frames, np.array([[digit == "1" for digit in entry.kept]]))
    return LoadedClip(entry, frames, state.record)
