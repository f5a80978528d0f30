"""Whether a network computes what was said of it, found out by running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from service.foreign_models.description import Description, ForeignModelError
from service.inference.backend import Clips

Outputs = Sequence[npt.NDArray[np.generic]]
"""Logits, and the embedding where one is declared."""
_SEED = 0
_TOLERANCE = 1e-3


def probe(run: Callable[[Clips], Outputs], described: Description) -> int:
    """Run a network on one clip and on the largest batch; returns the size of its embedding, 0 without one.

    A batch must give each clip what it gets alone: a network that was traced may have kept the size of its batch.

    Raises ForeignModelError where the outputs are not what was described, and what `run` raises.
    """
    clips = np.random.default_rng(_SEED).integers(
        0, 256, (described.max_batch_size, *described.clip_shape), dtype=np.uint8
    )
    alone = run(clips[:1])
    sizes = [_checked(name, output, 1, described) for name, output in _named(alone)]
    if described.max_batch_size > 1:
        together = run(clips)
        for (name, output), (_, first) in zip(_named(together), _named(alone), strict=True):
            _checked(name, output, len(clips), described)
            reach = max(1.0, float(np.abs(first).max()))
            if (apart := float(np.abs(output[:1] - first).max())) > _TOLERANCE * reach:
                raise ForeignModelError(
                    f"the {name} of a clip change by {apart:.3g} where it shares a pass with {len(clips) - 1} others: "
                    "the network does not treat each clip by itself, and max_batch_size must be 1"
                )
    return sizes[1] if len(sizes) > 1 else 0


def _named(outputs: Outputs) -> list[tuple[str, npt.NDArray[np.float32]]]:
    return [
        (name, np.asarray(output, np.float32)) for name, output in zip(("logits", "embedding"), outputs, strict=False)
    ]


def _checked(name: str, output: npt.NDArray[np.float32], batch: int, described: Description) -> int:
    """The size of an output of one clip."""
    shape = list(output.shape)
    if name == "logits" and output.ndim == 2 and shape[1] != len(described.labels):
        raise ForeignModelError(
            f"the network returns {shape[1]} logits for a clip, and {len(described.labels)} labels were given"
        )
    if output.ndim != 2 or shape[0] != batch:
        size = len(described.labels) if name == "logits" else "D"
        raise ForeignModelError(f"the {name} of {batch} clips are of shape {shape}, and [{batch}, {size}] is needed")
    if not np.isfinite(output).all():
        raise ForeignModelError(f"the {name} of a clip of noise hold NaN or infinite values")
    return int(shape[1])
