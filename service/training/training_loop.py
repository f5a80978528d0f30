"""The training loop, on Lightning Fabric: one process or many, any precision, resumed where it was left."""

from __future__ import annotations

import copy
import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from service.model.factory import Network
from service.model.preprocess import Normalize
from service.model.vidtr import VidTr
from service.model.weights.native import save_weights
from service.training.camera_motion.flow import CameraFlowReader
from service.training.config import Recipe, TrainConfig
from service.training.evaluate import evaluate
from service.training.losses import examples_loss
from service.training.optimize import make_optimizer, rate_at
from service.training.process_group import join_process_group, leave_process_group
from service.training.sources import Source, generator_for
from service.training.training_state import load_state, save_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(network: Network, source: Source, config: TrainConfig, out: Path, *, stop_after: int | None = None) -> float:
    """Train `network`, in place, and return the last step's loss, averaged over its parts and processes.

    `out` gets `last.safetensors` (the whole state), `best.safetensors` (weights of the best evaluation), `log.csv` and
    TensorBoard's events. Where `last.safetensors` exists, the run continues from it. Under `torchrun` each of
    its processes calls this. `stop_after` ends the run early, as a kill between two steps would.

    Raises ValueError where the batch cannot be divided among the processes or the recipe does not fit the network.
    """
    torch.set_num_threads(config.run.threads)
    last_loss = _train(join_process_group(config.run), network, source, config, out, stop_after)
    leave_process_group()
    return last_loss


def _train(
    fabric: Fabric, network: Network, source: Source, config: TrainConfig, out: Path, stop_after: int | None
) -> float:
    recipe, run = config.recipe, config.run
    parts = recipe.accumulate * fabric.world_size
    if recipe.batch % parts:
        raise ValueError(f"batch ({recipe.batch}) must be a multiple of processes x accumulate ({parts})")
    out.mkdir(parents=True, exist_ok=True)
    if run.checkpointing:
        for layer in network.encoder.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    averaged = copy.deepcopy(network)
    _freeze(network, recipe.frozen_layers)
    trained = _with_readers(network, recipe, run.seed)
    wrapped, optimizer = fabric.setup(trained, make_optimizer(trained, recipe))
    averaged.to(fabric.device)
    normalize = Normalize().to(fabric.device)
    state, step, best = out / "last.safetensors", 0, -1.0
    if state.exists():
        facts = load_state(state, trained, averaged, optimizer)
        step, best = int(facts["step"]), facts["best"]
    log = _Log(out, step) if fabric.is_global_zero else None
    held_out = source.held_out() if fabric.is_global_zero else []
    size, value = recipe.batch // parts, float("nan")
    last = recipe.steps if stop_after is None else min(recipe.steps, stop_after)
    with _bar(fabric.is_global_zero) as bar:
        task = bar.add_task("training", total=recipe.steps, completed=step)
        while step < last:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, recipe)
            wrapped.train()
            total = torch.zeros((), device=fabric.device)
            for part in range(recipe.accumulate):
                index = fabric.global_rank * recipe.accumulate + part
                # Dropout draws from the global state: tied to the step, it needs no saving.
                torch.manual_seed(int(generator_for(run.seed, step, index, 2).initial_seed()))
                examples = source.batch(step, index * size, (index + 1) * size, recipe.batch)
                with fabric.no_backward_sync(wrapped, enabled=part + 1 < recipe.accumulate):
                    loss = examples_loss(wrapped, normalize, examples, recipe, source.multi_label, fabric.device)
                    fabric.backward(loss / recipe.accumulate)
                total += loss.detach() / recipe.accumulate
            if recipe.clip_norm:
                fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            _average(averaged, network, recipe.ema, step)
            value = float(cast(Tensor, fabric.all_reduce(total, reduce_op="mean")))
            bar.update(task, completed=step, description=f"loss {value:.3f}")
            if log and step % run.log_every == 0:
                log.write(step, {"loss": value, "rate": rate_at(step - 1, recipe)})
            if step % run.evaluate_every == 0 or step == recipe.steps:
                if log:
                    figures = evaluate(averaged, held_out, multi_label=source.multi_label).figures
                    log.write(step, figures)
                    score = figures.get("mAP", figures.get("top1", 0.0))
                    if score > best:
                        best = score
                        save_weights(averaged, out / "best.safetensors")
                    save_state(state, trained, averaged, optimizer, {"step": step, "best": best})
                fabric.barrier()
    if log:
        log.close()
    return value


def _with_readers(network: Network, recipe: Recipe, seed: int) -> nn.Module:
    if not recipe.camera_flow:
        return network
    if not isinstance(network, VidTr):
        raise ValueError("camera_flow is read from networks of the grid family only")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CameraFlowReader(network)


def _freeze(network: Network, layers: int) -> None:
    if layers >= len(network.encoder.layers):
        raise ValueError(f"frozen_layers ({layers}) must leave one of {len(network.encoder.layers)} layers to train")
    if layers:
        tables = [parameter for name, parameter in network.named_parameters(recurse=False)]
        for part in (*tables, *network.conv_stem.parameters()):
            part.requires_grad_(False)
        for layer in list(network.encoder.layers)[:layers]:
            layer.requires_grad_(False)


@torch.no_grad()
def _average(averaged: Network, network: Network, decay: float, step: int) -> None:
    # Early on the average follows closely: it would otherwise hold on to random weights.
    keep = min(decay, step / (step + 20)) if decay else 0.0
    for mean, now in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(now.detach(), 1 - keep)


def _bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )


class _Log:
    """`log.csv` with one row for each figure, and the same figures for TensorBoard."""

    def __init__(self, out: Path, step: int) -> None:
        path = out / "log.csv"
        rows = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as old:
                # What was logged after the checkpoint happens again.
                rows = [row for row in csv.reader(old) if row and row[0].isdigit() and int(row[0]) <= step]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file)
        self._csv.writerows([["step", "figure", "value"], *rows])
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._csv.writerow([step, name, f"{value:.6g}"])
            self._board.add_scalar(name, value, step)
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()
