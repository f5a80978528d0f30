"""What the frames of each window contribute to its first label, computed where the model is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio.to_thread
import numpy as np
from anyio.from_thread import run as run_in_loop
from numpy.typing import NDArray

from service.aggregate import probabilities, ranked
from service.contracts import ModelSpec
from service.evidence import Clip, Evidence, Kept, Values, evidence, variants

Infer = Callable[[Clip], Awaitable[NDArray[np.floating]]]
"""Logits `(B, K)` of clips `(B, T, H, W, 3)`, at most the model's batch."""


@dataclass(frozen=True)
class WindowEvidence:
    """Of one window."""

    label: str
    evidence: Evidence


async def window_evidence(infer: Infer, spec: ModelSpec, crops: Clip) -> WindowEvidence:
    """The evidence for the first label of a window, of which `crops` `(C, T, H, W, 3)` are seen.

    A score is the mean over the crops, as in an answer.
    """
    everything = np.ones((1, crops.shape[1]), dtype=bool)
    scores = (await _scores(infer, spec, crops, everything))[0]
    [first] = ranked(scores, spec.labels, 1, 0.0, spec.thresholds, spec.qualifiers)

    def value(kept: Kept) -> Values:
        return np.asarray(run_in_loop(_scores, infer, spec, crops, kept)[:, first.index])

    found = await anyio.to_thread.run_sync(evidence, value, crops.shape[1])
    return WindowEvidence(first.label, found)


async def _scores(infer: Infer, spec: ModelSpec, crops: Clip, kept: Kept) -> Values:
    """`(M, K)` for the frames `(M, T)` that are kept, batch by batch: all variants at once may fill the memory."""
    rows = []
    for begin in range(0, len(kept), spec.max_batch_size):
        part = kept[begin : begin + spec.max_batch_size]
        logits = [np.asarray(await infer(variants(clip, part)), dtype=np.float64) for clip in crops]
        rows.append(np.mean([probabilities(one, spec.activation) for one in logits], axis=0))
    return np.concatenate(rows)
