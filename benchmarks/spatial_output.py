"""What the output `spatial_attention` costs a forward: the same weights with and without it, alternating.

    python -m benchmarks.spatial_output [--rounds 200] [--clips 1] [MODEL ...]

MODEL is a preset, or `camera_motion`, the bundled weights. A second copy without the output says how far two copies of
one network differ by themselves. The figure is the least processor time of all rounds, on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from docs.figure_data import shipped_network
from service.inference.cpu import Forward, optimize_for_cpu
from service.inference.torchscript_archive import load_archive
from service.model.factory import Network
from service.model.model_export import scripted_archive, served_module
from service.model.presets import build_preset

KINDS = (False, True, False)
"""Whether each copy has the output."""


def loaded(network: Network, *, spatial: bool) -> Forward:
    """The network as the in-process engine computes it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.pt")
        path.write_bytes(scripted_archive(served_module(network, spatial=spatial)))
        return optimize_for_cpu(load_archive(path))


def least_seconds(network: Network, clips: int, rounds: int) -> list[float]:
    """Of each of `KINDS`, the least processor time of a forward."""
    config = network.config
    forwards = [loaded(network, spatial=spatial) for spatial in KINDS]
    batch = torch.randint(0, 256, (clips, config.frames, config.height, config.width, 3), dtype=torch.uint8)
    least = [float("inf")] * len(KINDS)
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        for number in range(rounds + 2):
            for place, forward in enumerate(forwards):
                started = time.thread_time()
                forward(batch)
                if number >= 2:
                    least[place] = min(least[place], time.thread_time() - started)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["camera_motion"])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clips", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.models:
        network = shipped_network() if name == "camera_motion" else build_preset(name)
        without, looked, again = least_seconds(network, arguments.clips, arguments.rounds)
        print(
            f"{name}, {arguments.clips} clips: {1e3 * without:.2f} ms without, {1e3 * looked:.2f} ms with"
            f" ({looked / without - 1:+.1%}), {1e3 * again:.2f} ms a second copy without ({again / without - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
