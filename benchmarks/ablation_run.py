"""One run of the ablation: a network trained on kept clips, and what it comes to on those held out."""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache
from math import comb
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ablation_clips import KeptClips
from service.model.config import VidTrConfig
from service.model.factory import Network
from service.model.preprocess import Normalize
from service.training.camera_motion.camera_moments import MOMENT_LABELS, MomentsBatch
from service.training.config import TrainConfig
from service.training.evaluate import evaluate
from service.training.start import make_network
from service.training.training_loop import train
from service.training.training_state import load_averaged


def run(config: TrainConfig, clips: Path, folder: Path, deadline: float) -> dict[str, Any] | None:
    """Train, or go on, in `folder` and return figures of the last weights on the held-out clips.

    None where it would begin after `deadline`, a time of `time.monotonic`.
    """
    if time.monotonic() > deadline:
        return None
    torch.set_num_threads(config.run.threads)
    if config.run.accelerator == "cuda":
        torch.set_float32_matmul_precision("high")
    source = _source(clips, config.run.accelerator)
    source.seed = config.run.seed
    network = make_network(config, len(MOMENT_LABELS))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (folder / "progress.txt").open("w") as progress, contextlib.redirect_stdout(progress):
        loss = train(network, source, config, folder)
    seconds = time.monotonic() - began
    # The last weights, not the best: those are chosen by the clips that judge.
    load_averaged(folder / "last.safetensors", network)
    result = evaluate(network, source.held_out(), multi_label=False, batch=config.recipe.batch)
    right = result.scores.argmax(1) == result.targets.argmax(1)
    of = source.evaluated.labels
    return {
        "top1": result.figures["top1"],
        "accuracy": {label: float(right[of == i].float().mean()) for i, label in enumerate(MOMENT_LABELS)},
        "kept": kept_moments(network, source.evaluated, config.recipe.batch),
        "loss": loss,
        "train_seconds": seconds,
    }


@lru_cache(maxsize=1)
def _source(clips: Path, accelerator: str) -> KeptClips:
    # Of the runs that a process makes, all train on the same clips.
    return KeptClips(clips, torch.device("cuda" if accelerator == "cuda" else "cpu"))


@torch.inference_mode()
def kept_moments(network: Network, clips: MomentsBatch, batch: int) -> dict[str, float] | None:
    """Of the clips that do not stand still, in how many all telling frames, or any, survive all layers that pool, as
    shares, and in how many they would if frames were dropped by chance.

    None where nothing is chosen: without pooling, or where frames are merged.
    """
    config = network.config
    if not isinstance(config, VidTrConfig) or not config.pooling or config.pooling_method != "topk_std":
        return None
    network.eval()
    device = network.fc.weight.device
    normalize = Normalize().to(device)
    parts = [network(normalize(part.to(device))).layer_retention[:, -1].cpu() for part in clips.clips.split(batch)]
    survived, telling = torch.cat(parts), clips.telling  # (N, T)
    some = telling.any(1)
    # A share of heads and locations: with one choice for all of them it is 0 or 1.
    lost = torch.where(telling, 1 - survived.clamp(0, 1), 0.0)[some]
    count = telling[some].sum(1)
    return {
        "all": float((lost.amax(1) < 0.5).float().mean()),
        "any": float((lost.sum(1) < count - 0.5).float().mean()),
        "all_by_chance": _by_chance(count, config.frames, config.pooling[-1][1]),
    }


def _by_chance(telling: Tensor, frames: int, kept: int) -> float:
    """Mean over clips of the chance that so many frames are all among `kept` of `frames`."""
    chances = [comb(frames - n, frames - kept) / comb(frames, kept) for n in telling.tolist()]
    return float(torch.tensor(chances).mean())
