"""Training memory of the vanilla video transformer against VidTr, for clips of 8, 16 and 32 frames.

The paper states that VidTr needs 3.3 times less memory. Joint attention keeps maps of (1 + T S)^2 entries where
separable attention keeps (S+1)(T+1)^2 + (T+1)(S+1)^2, so the ratio is no constant: it grows with the frames T.
This counts the bytes of both on meta tensors, one float32 clip of 224 x 224 pixels a step, and finds the number of
frames where the ratio is the paper's. Fused attention keeps no maps, and VidTr's advantage in memory goes with them.

    python -m benchmarks.memory [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import Maps, activation_bytes, training_bytes
from service.model.presets import PRESETS

FRAMES = (8, 16, 32)
PAPER_RATIO = 3.3
GIB = 2**30

# Each is (name, what is counted, attention maps, dropout).
COLUMNS: tuple[tuple[str, Any, Maps, bool], ...] = (
    ("activations, dropout off", activation_bytes, "materialized", False),
    ("activations, dropout 0.1", activation_bytes, "materialized", True),
    ("total, dropout 0.1", training_bytes, "materialized", True),
    ("total, fused attention", training_bytes, "fused", True),
)


def pair(frames: int) -> tuple[SequenceConfig, VidTrConfig]:
    """The vanilla transformer and VidTr for clips of `frames`, otherwise alike."""
    vanilla, vidtr = PRESETS["vanilla_8x8"].config, PRESETS["vidtr_s_8x8"].config
    assert isinstance(vanilla, SequenceConfig)
    assert isinstance(vidtr, VidTrConfig)
    positions = PRESETS["vidtr_m_16x4"].config.positions if frames == 16 else vidtr.positions
    return replace(vanilla, frames=frames, positions=positions), replace(vidtr, frames=frames, positions=positions)


def compare(frames: int) -> dict[str, dict[str, float]]:
    """GiB of both networks and their ratio, by column."""
    vanilla, vidtr = pair(frames)
    rows = {}
    for name, count, maps, dropout in COLUMNS:
        dividend, divisor = (count(config, maps, dropout=dropout) for config in (vanilla, vidtr))
        rows[name] = {"vanilla_gib": dividend / GIB, "vidtr_gib": divisor / GIB, "ratio": dividend / divisor}
    return rows


def frames_of_ratio(ratio: float, maps: Maps) -> int:
    """The even number of frames, 8 to 32, whose ratio of total training memory comes closest to `ratio`."""

    def distance(frames: int) -> float:
        vanilla, vidtr = (training_bytes(config, maps, dropout=True) for config in pair(frames))
        return abs(vanilla / vidtr - ratio)

    return min(range(8, 33, 2), key=distance)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/memory.json"))
    arguments = parser.parse_args()
    measured = {frames: compare(frames) for frames in FRAMES}
    closest = frames_of_ratio(PAPER_RATIO, "materialized")
    result = {
        "by_frames": measured,
        "paper_ratio": PAPER_RATIO,
        "frames_where_the_total_has_the_paper_ratio": closest,
        "torch": torch.__version__,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{'GiB: vanilla / VidTr = ratio':28}" + "".join(f"{f'{frames} frames':>24}" for frames in FRAMES))
    for name, *_ in COLUMNS:
        cells = (measured[frames][name] for frames in FRAMES)
        print(
            f"{name:28}"
            + "".join(f"{c['vanilla_gib']:10.2f} / {c['vidtr_gib']:.2f} = {c['ratio']:.2f}".rjust(24) for c in cells)
        )
    print(
        f"\nThe ratio is no constant, it grows with the clip. The paper's {PAPER_RATIO} holds near 16 frames, closest"
        f" at {closest},\nas total training memory (activations, weights, gradients, momentum) with materialized maps."
    )


if __name__ == "__main__":
    main()
