"""A backend whose scores tell which clip they are of, so that a mix-up is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from service.aggregate import aggregate
from service.contracts import ClipScores, JobRecord, JobResult, ModelSpec
from service.errors import BackendFailed
from service.inference.backend import Clips, Scores
from testing.factories import LABELS, spec

INFERENCE_S = 0.05
BAD = 255
SPEC = spec()


def clip_bytes(body: int, clip: int, bad: bool) -> bytes:
    """Pixels of one clip of a video."""
    pixels = bytearray([20 * body + 3 * clip + 1] * SPEC.clip_bytes)
    if bad:
        pixels[0] = BAD
    return bytes(pixels)


def logits_of(colour: int) -> tuple[float, ...]:
    """What the network says of a clip of this colour."""
    return tuple(float(np.float32(np.sin(colour * (label + 1)))) for label in range(len(LABELS)))


def expected(record: JobRecord, body: int) -> JobResult:
    """The one right answer to a job."""
    frames = (0.25,) * SPEC.frames
    layers = ((0.25,) * SPEC.frames,) * SPEC.layers
    scores = [
        ClipScores(
            logits=logits_of(20 * body + 3 * clip + 1),
            temporal_attention=frames,
            layer_attention=layers,
            layer_retention=layers,
        )
        for clip in range(len(record.decoded.clips))
    ]
    return aggregate(record, SPEC, scores, 0.0)


class Backend:
    """Bad clips fail until the backend is `mended`."""

    def __init__(self, mended: Sequence[bool]) -> None:
        self._mended = mended

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to release."""

    async def models(self) -> list[ModelSpec]:
        return [SPEC]

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        await asyncio.sleep(INFERENCE_S)
        if (clips[:, 0, 0, 0, 0] == BAD).any() and not any(self._mended):
            raise BackendFailed("a bad clip")
        colours = clips[:, -1, -1, -1, -1]
        frames = np.full((len(clips), SPEC.frames), 0.25, np.float32)
        layers = np.repeat(frames[:, None], SPEC.layers, axis=1)
        return Scores(
            logits=np.array([logits_of(int(colour)) for colour in colours], np.float32),
            temporal_attention=frames,
            layer_attention=layers,
            layer_retention=layers,
            embedding=np.zeros((len(clips), 0), np.float32),
        )
