"""A large batch goes through the network in several passes, so that its memory is that of a few clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from service.inference.cpu import Forward

PASS_BYTES = 5 * 2**19
"""Bytes of uint8 clips in one pass, as they are in RGB: two clips of 8 frames of 224 x 224 pixels."""


def microbatch(forward: Forward, limit: int = PASS_BYTES) -> Forward:
    """A forward of any batch by one that gets as few clips at once as `limit` bytes hold, but at least one.

    A CPU gains nothing from more: the products of a clip of that size are as fast as those of eight. Activations grow
    with the clips of a pass, and all of them that were ever alive at once are what the process keeps.
    """

    def run(clips: Tensor) -> Any:
        # The network sees a clip in 4:2:0 as one in RGB, of twice the bytes.
        in_rgb = clips.numel() * (2 if clips.size(-1) == 1 else 1)
        passes = min(len(clips), -(-in_rgb // limit))
        if passes <= 1:
            return forward(clips)
        results = [forward(part) for part in clips.tensor_split(passes)]
        if isinstance(results[0], Tensor):
            return torch.cat(results)
        return tuple(torch.cat(output) for output in zip(*results, strict=True))

    return run
