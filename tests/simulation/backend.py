"""A backend whose scores tell which clip they are of, so that a mix-up is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from service.aggregate import aggregate
from service.contracts import ClipScores, DecodedVideo, JobRecord, JobResult, ModelSpec, SampledWindow
from service.errors import BackendFailed
from service.inference.backend import Clips, Scores
from testing.factories import LABELS, decoded, spec

INFERENCE_S = 0.05
BAD = 255
FRAMES = 2
# Three entries with frames left out for each clip, and a batch that is smaller than a clip with all of them.
SPEC = spec(frames=FRAMES, max_batch_size=3)
MASKED = ((0, 0), (0, 0), (1, 1))
"""which frames are seen where none is kept, the first alone, and the second alone"""


def clip_bytes(body: int, clip: int, bad: bool) -> bytes:
    """Pixels of one clip of a video. Of a bad one the first frame cannot be scored."""
    pixels = bytearray(b"".join(bytes([colour]) * (SPEC.clip_bytes // FRAMES) for colour in _colours(body, clip)))
    if bad:
        pixels[0] = BAD
    return bytes(pixels)


def _colours(body: int, clip: int) -> tuple[int, ...]:
    return tuple(20 * body + 3 * clip + 1 + frame for frame in range(FRAMES))


def logits_of(colours: Sequence[int]) -> tuple[float, ...]:
    """What the network says of a clip whose frames have these colours."""
    mixed = sum(colour * 7**frame for frame, colour in enumerate(colours))
    return tuple(float(np.float32(np.sin(mixed * (label + 1)))) for label in range(len(LABELS)))


def video(clips: int) -> DecodedVideo:
    """What is known of a video with so many clips."""
    windows = tuple(
        SampledWindow(start_s=float(w), end_s=w + 1.0, times_s=tuple(w + t / FRAMES for t in range(FRAMES)))
        for w in range(clips)
    )
    return decoded(windows=clips, clip_shape=SPEC.clip_shape).model_copy(update={"windows": windows})


def expected(record: JobRecord, body: int) -> JobResult:
    """The one right answer to a job."""
    frames = (0.25,) * SPEC.frames
    layers = ((0.25,) * SPEC.frames,) * SPEC.layers
    scores = [
        ClipScores(
            logits=logits_of([_colours(body, clip)[frame] for frame in seen]),
            temporal_attention=frames,
            layer_attention=layers,
            layer_retention=layers,
        )
        for seen in (range(FRAMES), *(MASKED if record.evidence else ()))
        for clip in range(len(record.decoded.clips))
    ]
    return aggregate(record, SPEC, scores, 0.0)


def said(result: JobResult) -> tuple[object, ...]:
    """What a result says, without how long it took."""
    windows = [
        window
        if window.evidence is None
        else window.model_copy(update={"evidence": window.evidence.model_copy(update={"engine_ms": 0.0})})
        for window in result.windows
    ]
    return result.predictions, windows


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
        colours = clips[:, :, -1, -1, -1].tolist()
        frames = np.full((len(clips), SPEC.frames), 0.25, np.float32)
        layers = np.repeat(frames[:, None], SPEC.layers, axis=1)
        return Scores(
            logits=np.array([logits_of(of_clip) for of_clip in colours], np.float32),
            temporal_attention=frames,
            layer_attention=layers,
            layer_retention=layers,
            spatial_attention=np.zeros((len(clips), 0, 0, 0), np.float32),
            embedding=np.zeros((len(clips), 0), np.float32),
        )
