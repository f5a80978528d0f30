"""The port between the worker and whatever computes scores. NumPy only: no engine is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.contracts import ModelSpec
from service.errors import BackendFailed

Clips = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a network says of B clips, in the order of the clips. All arrays are float32.

    What the model does not give has no columns: L and T are 0 without attention, D is 0 without an embedding, and
    sizes of the grid are 0 without attention in space.
    """

    logits: FloatArray
    """`[B, K]`"""
    temporal_attention: FloatArray
    """`[B, T]`, non-negative, each row sums to 1"""
    layer_attention: FloatArray
    """`[B, L, T]`"""
    layer_retention: FloatArray
    """`[B, L, T]`"""
    spatial_attention: FloatArray
    """`[B, T, rows, columns]`, non-negative, sums to at most 1 for each clip"""
    embedding: FloatArray
    """`[B, D]`"""


class Backend(Protocol):
    """Computes scores of clips.

    Every method may raise BackendUnavailable, which is transient: the same call may succeed later. BackendFailed is
    permanent: the same call will fail again.
    """

    async def start(self) -> None:
        """Get ready to serve; returns once `models` and `infer` may be called."""

    async def models(self) -> list[ModelSpec]:
        """Every model version served now, sorted by name and then by version number.

        Raises:
            BackendUnavailable: the engine does not answer.
        """

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """Scores of `clips`, uint8 `[B, T, H, W, 3]` RGB with 1 <= B <= the model's `max_batch_size`.

        They are of no use after `timeout_s` seconds; an engine that can cancel does so then.

        Raises:
            BackendUnavailable: the engine is away, stopping, too busy or too slow.
            BackendFailed: the model or version is not served, the clips do not fit it, or the network failed.
        """

    async def close(self) -> None:
        """Release everything; calls that come later raise BackendUnavailable. Closing twice is harmless."""


def served_order(spec: ModelSpec) -> tuple[str, int]:
    """Sort key of `Backend.models`: version 10 comes after version 9."""
    return (spec.name, int(spec.version))


def summarize_error(message: str) -> str:
    """First and last line of an engine's message: what failed and why, without the stack trace in between."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"


def checked_scores(spec: ModelSpec, outputs: Mapping[str, npt.NDArray[np.generic] | None], batch: int) -> Scores:
    """Scores from raw outputs by name, after checking them against the contract.

    TorchScript and Triton check neither shapes nor values of outputs, and a NaN would go all the way to the caller.

    Raises:
        BackendFailed: an output is None, because the answer lacks it, has another dtype or shape than the model's
            contract says, or is not finite.
    """
    given = {name: _checked(spec, name, outputs[name], (batch, *shape)) for name, shape in spec.outputs.items()}
    return Scores(**{field.name: given.get(field.name, _absent(batch, field.name)) for field in fields(Scores)})


def _absent(batch: int, name: str) -> FloatArray:
    axes = {"layer_attention": 2, "layer_retention": 2, "spatial_attention": 3}
    return np.zeros((batch, *[0] * axes.get(name, 1)), np.float32)


def _checked(spec: ModelSpec, name: str, array: npt.NDArray[np.generic] | None, shape: tuple[int, ...]) -> FloatArray:
    where = f"Model {spec.name!r} version {spec.version}: output {name!r}"
    if array is None:
        raise BackendFailed(f"{where} is not in the answer.")
    if array.dtype != np.float32 or array.shape != shape:
        raise BackendFailed(f"{where} is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}.")
    scores = array.astype(np.float32, copy=False)
    if not np.isfinite(scores).all():
        raise BackendFailed(f"{where} holds NaN or infinite values.")
    return scores
