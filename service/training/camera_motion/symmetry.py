"""Mirrored, transposed and reversed clips: each is again a clip of some class, and costs next to nothing."""

from __future__ import annotations

import torch

from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.camera_motion.generator import Batch
from service.training.camera_motion.swaps import PAN, ROLL, TILT, ZOOM, swapped

MIRRORED = swapped(LABELS, PAN, ROLL)
"""Class of a clip whose left and right are exchanged."""
FLIPPED = swapped(LABELS, TILT, ROLL)
"""Class of a clip that is upside down by a mirror."""
TRANSPOSED = swapped(LABELS, ("pan_left", "tilt_up"), ("pan_right", "tilt_down"), ROLL)
"""Class of a clip whose rows and columns are exchanged."""
REVERSED = swapped(LABELS, PAN, TILT, ZOOM, ROLL)
"""Class of a clip that runs backwards."""


def randomly_transformed(batch: Batch, generator: torch.Generator) -> Batch:
    """Each clip by its own random choice of the sixteen symmetries of a square in time; labels and cuts follow."""
    clips, labels, cut, flow = batch
    frames = clips.size(1)
    for dims, table, components, signs in (
        ((3,), MIRRORED, [0, 1, 2, 3], [-1, 1, -1, 1]),
        ((2,), FLIPPED, [0, 1, 2, 3], [1, -1, 1, -1]),
        (None, TRANSPOSED, [1, 0, 3, 2], [1, 1, 1, 1]),
        ((1,), REVERSED, [2, 3, 0, 1], [1, 1, 1, 1]),
    ):
        chosen = torch.rand(len(labels), generator=generator) < 0.5
        pick = chosen.view(-1, 1, 1, 1, 1)
        clips = torch.where(pick, clips.transpose(2, 3) if dims is None else clips.flip(dims), clips)
        placed = flow.transpose(2, 3) if dims is None else flow.flip(dims)
        flow = torch.where(pick, placed[..., components] * torch.tensor(signs), flow)
        labels = torch.where(chosen, table[labels], labels)
        if table is REVERSED:
            cut = torch.where(chosen & (cut >= 0), frames - 2 - cut, cut)
    return Batch(clips, labels, cut, flow)
