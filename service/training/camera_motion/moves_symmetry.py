"""Mirrored and reversed clips with independent scores: each is again such a clip, and costs next to nothing."""

from __future__ import annotations

import torch

from service.training.camera_motion.mixed_moves import MovesBatch
from service.training.camera_motion.moves import MOVE_LABELS
from service.training.camera_motion.swaps import PAN, ROLL, TILT, ZOOM, swapped

MIRRORED = swapped(MOVE_LABELS, PAN, ROLL)
"""Whose score each label has in a clip whose left and right are exchanged."""
FLIPPED = swapped(MOVE_LABELS, TILT, ROLL)
"""The same of a clip that is upside down by a mirror."""
REVERSED = swapped(MOVE_LABELS, PAN, TILT, ZOOM, ROLL)
"""The same of a clip that runs backwards."""


def randomly_mirrored(batch: MovesBatch, generator: torch.Generator) -> MovesBatch:
    """Each clip by its own random choice of eight symmetries; scores, cuts, motion and values follow.

    Rows and columns are not exchanged: a clip shows the whole of a wide frame, squeezed.
    """
    clips, targets, cut, flow, values = batch
    frames = clips.size(1)
    for dim, order, components, signs in (
        (3, MIRRORED, [0, 1, 2, 3], [-1, 1, -1, 1]),
        (2, FLIPPED, [0, 1, 2, 3], [1, -1, 1, -1]),
        (1, REVERSED, [2, 3, 0, 1], [1, 1, 1, 1]),
    ):
        chosen = torch.rand(len(clips), generator=generator) < 0.5
        pick = chosen.view(-1, 1, 1, 1, 1)
        clips = torch.where(pick, clips.flip(dim), clips)
        flow = torch.where(pick, flow.flip(dim)[..., components] * torch.tensor(signs), flow)
        targets = torch.where(chosen[:, None], targets[:, order], targets)
        if dim == 1:
            cut = torch.where(chosen & (cut >= 0), frames - 2 - cut, cut)
            if values.numel():
                values = torch.where(chosen[:, None], values.flip(1), values)
    return MovesBatch(clips, targets, cut, flow, values)
