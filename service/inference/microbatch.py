"""A large batch goes through the network in several passes, so that its memory is that of a few clips."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from service.inference.cpu import Forward

PASS_BYTES = 5 * 2**19
"""Bytes of uint8 clips in one pass, as they are in RGB: two clips of 8 frames of 224 x 224 pixels."""


def clips_of_pass(clip_shape: Sequence[int], limit: int = PASS_BYTES) -> int:
    """How many clips of shape `(T, H, W, C)` one pass takes at most."""
    # The network sees a clip in 4:2:0 as one in RGB, of twice the bytes.
    in_rgb = prod(clip_shape) * (2 if clip_shape[-1] == 1 else 1)
    return max(1, limit // in_rgb)


def microbatch(forward: Forward, limit: int = PASS_BYTES) -> Forward:
    """A forward of any batch by one that gets as few clips at once as `limit` bytes hold, but at least one.

    A CPU gains nothing from more: the products of a clip of that size are as fast as those of eight. Activations grow
    with the clips of a pass, and all of them that were ever alive at once are what the process keeps.
    """

    def run(clips: Tensor) -> Any:
        passes = -(-len(clips) // clips_of_pass(clips.shape[1:], limit))
        if passes <= 1:
            return forward(clips)
        results = [forward(part) for part in clips.tensor_split(passes)]
        if isinstance(results[0], Tensor):
            return torch.cat(results)
        return tuple(torch.cat(output) for output in zip(*results, strict=True))

    return run
