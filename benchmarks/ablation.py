"""Vanilla, VidTr, and C-VidTr with avg, conv and topK_std: same clips, steps and seeds, in one table.

The paper compares ways to halve frames; this does it in small, with the project's own training loop, on clips of which
few frames tell the label (`service.training.camera_motion.camera_moments`). avg and conv halve the frames (16 to 8 to
4), so topK_std runs once with that schedule and once with the configuration's own. Milliseconds are those of one CPU
thread over rounds that alternate between the ways; activation memory is what one clip's training forward keeps, counted
on meta tensors with attention maps that are built, as in the paper, and with fused ones.

    python -m benchmarks.ablation configs/camera_moments.toml [--bank FILE] [--device cuda] [--at-once N] [--budget-s S]

The clips are rendered once and kept in the folder of the runs. All ways of a seed run before the next seed, results are
written after each run, and what is there already is not made again: a long table can be made in several sittings. With
`--budget-s` no run begins later than that; with `--rounds 0` what clips cost is left to another sitting.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ablation_clips import divided, render_clips
from benchmarks.ablation_run import run
from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import activation_bytes
from service.model.factory import build_network, for_inference
from service.model.preprocess import Normalize
from service.training.camera_motion.camera_moments import MOMENT_LABELS, MomentsConfig
from service.training.config import MomentsData, TrainConfig, read_config

BATCH = 16
MIB = 2**20
_GRID_ONLY = ("pooling_method", "selection", "second_softmax", "qkv", "class_tokens", "order")


def ways(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Fields of the network for each way, None for those that it has not.

    Raises ValueError where the configuration pools in other than two layers, or its frames cannot be halved twice.
    """
    pooling, frames = config.network.get("pooling", []), config.network["frames"]
    if len(pooling) != 2 or frames % 4:
        raise ValueError(f"two pooling layers and a multiple of 4 frames are needed, not {pooling} and {frames}")
    halves = [[layer, frames >> i] for i, (layer, _) in enumerate(pooling, start=1)]
    activation = config.network.get("activation", "gelu")
    vanilla = {"family": "sequence", "pooling": [], "activation": activation, "positions": "first_layer"}
    found: dict[str, dict[str, Any]] = {
        "vanilla": {**vanilla, **dict.fromkeys(_GRID_ONLY)},
        "VidTr": {"pooling": []},
        "avg": {"pooling": halves, "pooling_method": "avg"},
        "conv": {"pooling": halves, "pooling_method": "conv"},
        "topK_std, halves": {"pooling": halves},
    }
    kept = [keep for _, keep in pooling]
    if kept != [keep for _, keep in halves]:
        found[f"topK_std, {' to '.join(map(str, [frames, *kept]))}"] = {"pooling": pooling}
    return found


def changed(
    config: TrainConfig, fields: dict[str, Any], steps: int | None, seed: int, device: str = "cpu"
) -> TrainConfig:
    """The configuration with another network, seed, number of steps and device."""
    recipe = config.recipe.model_copy(update={} if steps is None else {"steps": steps})
    run = config.run.model_copy(update={"seed": seed, "accelerator": device, "evaluate_every": -(-recipe.steps // 4)})
    network = {name: value for name, value in {**config.network, **fields}.items() if value is not None}
    return config.model_copy(update={"network": network, "recipe": recipe, "run": run})


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


def banks(arguments: argparse.Namespace, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Tiles to train on and to evaluate on: of a file, or of the configuration's folders of pictures."""
    if arguments.bank:
        return divided(torch.load(arguments.bank))
    # Pictures are read by a decoder, which clips over a bank do without.
    from service.training.moments_source import textures

    return textures(moments_of(config), 0, held_out=False), textures(moments_of(config), 0, held_out=True)


def moments_of(config: TrainConfig) -> MomentsData:
    """The data of the configuration.

    Raises ValueError where they are of another kind.
    """
    if not isinstance(config.data, MomentsData):
        raise ValueError(f"the ablation is made on camera_moments, not on {config.data.kind}")
    return config.data


def costs(config: TrainConfig, table: dict[str, dict[str, Any]], rounds: int) -> dict[str, dict[str, float]]:
    """What a clip costs, by way."""
    networks = {
        name: changed(config, fields, None, 0).network_config(len(MOMENT_LABELS)) for name, fields in table.items()
    }
    times = milliseconds(networks, rounds)
    return {
        name: {
            "ms_per_clip": times[name],
            "time_ratio": times[name] / times["VidTr"],
            "activation_mib": activation_bytes(network, "materialized", dropout=False) / MIB,
            "fused_activation_mib": activation_bytes(network, "fused", dropout=False) / MIB,
        }
        for name, network in networks.items()
    }


def run_all(
    arguments: argparse.Namespace, config: TrainConfig, table: dict[str, dict[str, Any]], result: dict[str, Any]
) -> None:
    """Train every way with every seed, several at once, into `result`, which is written after each."""
    clips = arguments.out / "clips.pt"
    there = {(run["seed"], name) for name, row in result["ways"].items() for run in row["runs"]}
    # Spawned: an accelerator does not outlive a fork.
    with ProcessPoolExecutor(arguments.at_once, multiprocessing.get_context("spawn")) as pool:
        begun: dict[Future[dict[str, Any] | None], tuple[int, str]] = {}
        for seed in arguments.seeds:
            for number, (name, fields) in enumerate(table.items()):
                if (seed, name) in there:
                    continue
                settings = changed(config, fields, arguments.steps, seed, arguments.device)
                folder = arguments.out / f"{number}-{seed}"
                begun[pool.submit(run, settings, clips, folder, arguments.deadline)] = (seed, name)
        for future in as_completed(begun):
            seed, name = begun[future]
            if error := future.exception():
                print(f"seed {seed}, {name}:", flush=True)
                traceback.print_exception(error)
                continue
            figures = future.result()
            if figures is None:
                print(f"seed {seed}, {name}: not begun within the budget", flush=True)
                continue
            runs = result["ways"][name]["runs"]
            runs.append({"seed": seed, **figures})
            runs.sort(key=lambda figures: figures["seed"])
            write(arguments.json, result)
            told = f"{100 * figures['top1']:.1f} % in {figures['train_seconds']:.0f} s"
            print(f"seed {seed}, {name}: {told}", flush=True)


def write(file: Path, result: dict[str, Any]) -> None:
    """Write the results so far."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], help="replace a field of the file, as in vidtr train")
    parser.add_argument("--bank", type=Path, help="file of a uint8 tensor (N, 3, S, S) in place of pictures")
    parser.add_argument("--train-clips", type=int, default=16_000)
    parser.add_argument("--held-out-clips", type=int, default=1_998)
    parser.add_argument("--processes", type=int, default=2, help="that render clips")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--at-once", type=int, default=1, help="runs that train side by side")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="no run begins later")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/ablation.json"))
    return parser.parse_args()


def main() -> None:
    """Render, train, measure, print, write JSON."""
    arguments = parsed()
    arguments.deadline = time.monotonic() + arguments.budget_s
    config = read_config(arguments.config, arguments.set)
    moments_of(config)
    table = ways(config)
    shape = MomentsConfig(frames=config.network["frames"], side=config.network["height"])
    torch.set_num_threads(1)
    result = begun_before(arguments, config, table)
    if not (arguments.out / "clips.pt").exists() and any(
        len(row["runs"]) < len(arguments.seeds) for row in result["ways"].values()
    ):
        counts = (arguments.train_clips, arguments.held_out_clips)
        render_clips(arguments.out / "clips.pt", banks(arguments, config), shape, counts, arguments.processes)
    run_all(arguments, config, table, result)
    for name, cost in costs(config, table, arguments.rounds).items() if arguments.rounds else ():
        result["ways"][name] |= cost
    write(arguments.json, result)
    print_table(result)


def begun_before(
    arguments: argparse.Namespace, config: TrainConfig, table: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The results of an earlier sitting, or none yet.

    Raises ValueError where they are of other runs.
    """
    facts = {"steps": arguments.steps or config.recipe.steps, "batch": config.recipe.batch}
    if not arguments.json.exists():
        return {**facts, "device": arguments.device, "ways": {name: {"runs": []} for name in table}}
    result: dict[str, Any] = json.loads(arguments.json.read_text())
    if {name: result.get(name) for name in facts} != facts or set(result["ways"]) != set(table):
        raise ValueError(f"{arguments.json} is of other runs: remove it, or name another file with --json")
    return result


def print_table(result: dict[str, Any]) -> None:
    """Mean and standard deviation over the seeds, and the costs."""
    print(f"\n{result['steps']} steps of {result['batch']} clips; chance {100 / len(MOMENT_LABELS):.1f} %")
    print(
        f"{'way':26}{'runs':>5}{'top-1 %':>15}{'moment kept %':>17}{'ms a clip':>11}{'ratio':>7}{'MiB':>7}{'fused':>7}"
    )
    for name, row in result["ways"].items():
        kept = [run["kept"]["all"] for run in row["runs"] if run["kept"]]
        top1 = [run["top1"] for run in row["runs"]]
        cost = [
            row.get(key, float("nan"))
            for key in ("ms_per_clip", "time_ratio", "activation_mib", "fused_activation_mib")
        ]
        print(
            f"{name:26}{len(top1):5}{_spread(top1):>15}{_spread(kept):>17}"
            + "{:11.2f}{:7.2f}{:7.1f}{:7.1f}".format(*cost)
        )
    for name, row in result["ways"].items():
        by_label = [
            f"{label} {100 * statistics.mean(run['accuracy'][label] for run in row['runs']):.0f}"
            for label in MOMENT_LABELS
            if row["runs"]
        ]
        print(f"{name:26}" + ", ".join(by_label))


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} +- {100 * deviation:.1f}"


if __name__ == "__main__":
    main()
