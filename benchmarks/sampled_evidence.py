"""How often sampled evidence lies within the error that it states: beside exact Shapley values of the same clips.

    python -m benchmarks.sampled_evidence [--clips 200] [--frames 10] [--orders 32] [--json FILE]

The network is the bundled one with its temporal positions resampled for more frames than those up to which the service
scores all subsets; the clips are camera motion over made-up textures. Of each clip all 2^T subsets are scored, for the
label that it has first; the sampled version then looks its own subsets up among them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import record
from docs.figure_data import score, shipped_network
from service.evidence import EXACT_FRAMES, Clip, Kept, Values, evidence, shapley, subsets, variants
from service.model.factory import build_network, for_inference
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.model.vidtr import VidTr
from service.model.weights.resizing import start_from
from service.training.camera_motion.generator import CameraMotion, GeneratorConfig
from service.training.camera_motion.textures import texture_bank
from service.training.motion_source import TEXTURE_SCALE

BATCH = 128
MOST_FRAMES = 12
"""All 4096 subsets of so many take half a minute of one core."""


@dataclass(frozen=True)
class Sampled:
    """Of one clip."""

    stated: float
    actual: float
    """how far the contribution that is furthest off is off"""

    @property
    def within(self) -> bool:
        """Whether the statement holds."""
        return self.actual <= self.stated


def longer_network(frames: int) -> VidTr:
    """The bundled network for clips of so many frames."""
    shipped = shipped_network()
    network = for_inference(build_network(replace(shipped.config, frames=frames)))
    if not isinstance(network, VidTr):
        raise TypeError(f"the bundled network is no VidTr, but {type(network).__name__}")
    start_from(network, shipped.state_dict())
    return network


def moving_clips(network: VidTr) -> Iterator[Clip]:
    """Clips of all motions in turn, without end."""
    config = network.config
    bank = texture_bank([], tiles_each=1, procedural=60, side=TEXTURE_SCALE * config.height, seed=0)
    camera = CameraMotion(bank, GeneratorConfig(frames=config.frames, side=config.height), seed=1)
    while True:
        yield from camera.batch(torch.arange(len(LABELS))).clips.numpy()


def compared(network: VidTr, clip: Clip, orders: int) -> Sampled:
    """Sampled beside exact contributions to the first label of a clip `(T, H, W, 3)`."""
    every = subsets(len(clip))
    parts = np.array_split(every, len(every) // BATCH)
    logits = torch.cat([score(network, torch.from_numpy(variants(clip, part))).logits for part in parts])
    values = np.asarray(logits[:, int(logits[-1].argmax())].sigmoid().double().numpy())
    exact = shapley(values)

    def looked_up(kept: Kept) -> Values:
        return values[kept @ (1 << np.arange(len(clip)))]

    found = evidence(looked_up, len(clip), orders=orders)
    return Sampled(found.error, float(np.abs(found.contributions - exact).max()))


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--orders", type=int, default=32)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not EXACT_FRAMES < given.frames <= MOST_FRAMES:
        parser.error(f"--frames must be {EXACT_FRAMES + 1} to {MOST_FRAMES}, not {given.frames}")
    began = record.machine()
    torch.set_num_threads(1)
    network = longer_network(given.frames)
    clips = moving_clips(network)
    found = [compared(network, next(clips), given.orders) for _ in range(given.clips)]
    held = sum(one.within for one in found)
    figures = {
        "clips": len(found),
        "within": held / len(found),
        "median_stated": float(np.median([one.stated for one in found])),
        "median_actual": float(np.median([one.actual for one in found])),
    }
    sys.stdout.write(f"{held} of {len(found)} clips within the stated error\n{figures}\n")
    record.write("sampled_evidence", figures, began=began, ratios={}, path=given.json)


if __name__ == "__main__":
    main()
