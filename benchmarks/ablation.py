"""Down-sampling in time: none, avg, conv and topK_std with the same data, steps and seeds, in one table.

The paper compares ways to halve frames; this does it in small, with the project's own training loop. Every way sees the
same clips of the same seeds. avg and conv halve the frames (8 to 4 to 2), so topK_std runs once with that schedule and
once with the configuration's own. Milliseconds are those of one thread over rounds that alternate between the ways,
beside no down-sampling; activation memory is what one clip's training forward keeps, counted on meta tensors.

    python -m benchmarks.ablation CONFIG [--steps N] [--seeds N …] [--out FOLDER] [--json FILE]

A run that is there already goes on, so that a long table can be made in several sittings.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import activation_bytes
from service.model.factory import build_network, for_inference
from service.model.preprocess import Normalize
from service.training.config import TrainConfig, read_config
from service.training.sources import Generated
from service.training.start import make_network, make_source
from service.training.training_loop import train

BATCH = 16
MIB = 2**20


def ways(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Fields of the network for each way to down-sample.

    Raises ValueError where the configuration pools in other than two layers, or its frames cannot be halved twice.
    """
    pooling, frames = config.network.get("pooling", []), config.network["frames"]
    if len(pooling) != 2 or frames % 4:
        raise ValueError(f"two pooling layers and a multiple of 4 frames are needed, not {pooling} and {frames}")
    halves = [[layer, frames >> i] for i, (layer, _) in enumerate(pooling, start=1)]
    found: dict[str, dict[str, Any]] = {
        "none": {"pooling": []},
        "avg": {"pooling": halves, "pooling_method": "avg"},
        "conv": {"pooling": halves, "pooling_method": "conv"},
        "topK_std, halves": {"pooling": halves},
    }
    kept = [keep for _, keep in pooling]
    if kept != [keep for _, keep in halves]:
        found[f"topK_std, {' to '.join(map(str, [frames, *kept]))}"] = {"pooling": pooling}
    return found


def changed(config: TrainConfig, fields: dict[str, Any], steps: int | None, seed: int) -> TrainConfig:
    """The configuration with another network, seed and number of steps."""
    recipe = config.recipe.model_copy(update={} if steps is None else {"steps": steps})
    run = config.run.model_copy(update={"seed": seed, "accelerator": "cpu", "evaluate_every": recipe.steps})
    return config.model_copy(update={"network": {**config.network, **fields}, "recipe": recipe, "run": run})


def accuracy(folder: Path) -> dict[str, float]:
    """The figures of the last evaluation in a run's log."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["figure"]: float(row["value"]) for row in rows if row["figure"] in ("top1", "cut_found")}


def milliseconds(configs: dict[str, VidTrConfig | SequenceConfig], rounds: int) -> dict[str, float]:
    """Median time of one clip in a batch, by way; rounds alternate between the ways."""
    torch.set_num_threads(1)
    some = next(iter(configs.values()))
    clips = Normalize()(torch.randint(0, 256, (BATCH, some.frames, some.height, some.width, 3), dtype=torch.uint8))
    networks = {name: for_inference(build_network(config)) for name, config in configs.items()}
    taken: dict[str, list[float]] = {name: [] for name in configs}
    with torch.inference_mode():
        for _ in range(rounds + 2):
            for name, network in networks.items():
                began = time.perf_counter()
                network(clips)
                taken[name].append((time.perf_counter() - began) * 1000 / BATCH)
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def main() -> None:
    """Train, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], help="replace a field of the file, as in vidtr train")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/ablation.json"))
    arguments = parser.parse_args()
    config = read_config(arguments.config, arguments.set)
    table = ways(config)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in table}
    for seed in arguments.seeds:
        source = None
        for number, (name, fields) in enumerate(table.items()):
            settings = changed(config, fields, arguments.steps, seed)
            source = source or make_source(settings, None, arguments.out)  # type: ignore[arg-type]
            assert isinstance(source, Generated)
            folder = arguments.out / f"{number}-{seed}"
            train(make_network(settings, len(source.labels)), source, settings, folder)
            found[name].append(accuracy(folder))
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    configs = {
        name: changed(config, fields, None, 0).network_config(len(Generated.labels)) for name, fields in table.items()
    }
    times = milliseconds(configs, arguments.rounds)
    result = {
        "steps": arguments.steps or config.recipe.steps,
        "seeds": arguments.seeds,
        "ways": {
            name: {
                "runs": found[name],
                "ms_per_clip": times[name],
                "time_ratio": times[name] / times["none"],
                "activation_mib": activation_bytes(configs[name], "materialized", dropout=False) / MIB,
            }
            for name in table
        },
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print_table(result)


def print_table(result: dict[str, Any]) -> None:
    """Mean and standard deviation over the seeds, and the costs."""
    print(f"\n{result['steps']} steps, seeds {result['seeds']}")
    print(f"{'down-sampling':28}{'top-1 %':>16}{'cuts found %':>16}{'ms a clip':>12}{'ratio':>8}{'MiB':>8}")
    for name, row in result["ways"].items():
        cells = []
        for figure in ("top1", "cut_found"):
            values = [100 * run[figure] for run in row["runs"] if figure in run]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} +- {spread:.1f}" if values else "-")
        print(
            f"{name:28}{cells[0]:>16}{cells[1]:>16}{row['ms_per_clip']:12.2f}{row['time_ratio']:8.2f}"
            f"{row['activation_mib']:8.2f}"
        )


if __name__ == "__main__":
    main()
