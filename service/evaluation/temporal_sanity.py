"""Whether a model reads motion from the order of frames, and not from what single frames look like."""

from __future__ import annotations

import torch
from torch import Tensor

from service.evaluation.candidates import Score, score_all
from service.training.camera_motion.symmetry import REVERSED
from service.training.camera_motion.trajectories import INDEX
from service.training.intervals import Share, wilson

PAIRS = (("pan_left", "pan_right"), ("tilt_up", "tilt_down"), ("zoom_in", "zoom_out"), ("roll_cw", "roll_ccw"))
_NEITHER_WAY = 2
"""A shuffled order ascends and descends at least so often: one that does not is nearly the motion itself."""


def temporal_sanity(score: Score, clips: Tensor, labels: Tensor, seed: int = 0) -> dict[str, Share]:
    """Shares over the pans, tilts, zooms and rolls among clips uint8 `(B, T, H, W, 3)` of classes `(B,)`.

    `repeated_is_static`: the middle frame repeated is called static. `shuffled_keeps_class`: frames in a random order
    get the clip's own class. `reversed_swaps_*`: the clip backwards gets the opposite class, for each pair of classes.
    """
    motions = torch.tensor([INDEX[label] for pair in PAIRS for label in pair])
    chosen = torch.isin(labels, motions)
    clips, labels = clips[chosen], labels[chosen]
    frames = clips.size(1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([_shuffled(frames, generator) for _ in range(len(clips))])
    rows = torch.arange(len(clips))[:, None]
    still = clips[:, frames // 2 : frames // 2 + 1].expand_as(clips).contiguous()
    repeated = score_all(score, still).logits.argmax(1)
    shuffled = score_all(score, clips[rows, order]).logits.argmax(1)
    backwards = score_all(score, clips.flip(1)).logits.argmax(1)
    found = {
        "repeated_is_static": _share(repeated == INDEX["static"]),
        "shuffled_keeps_class": _share(shuffled == labels),
        "reversed_swaps": _share(backwards == REVERSED[labels]),
    }
    for pair in PAIRS:
        of_pair = torch.isin(labels, torch.tensor([INDEX[label] for label in pair]))
        name = pair[0].partition("_")[0]
        found[f"reversed_swaps_{name}"] = _share((backwards == REVERSED[labels])[of_pair])
    return found


def _shuffled(frames: int, generator: torch.Generator) -> Tensor:
    least = min(_NEITHER_WAY, (frames - 1) // 2)
    while True:
        order = torch.randperm(frames, generator=generator)
        rising = int((order.diff() > 0).sum())
        if least <= rising <= frames - 1 - least:
            return order


def _share(hits: Tensor) -> Share:
    return wilson(int(hits.sum()), len(hits))
