"""From a configuration to what a run starts with: how its clips are decoded, and the network with its first weights."""

from __future__ import annotations

from pathlib import Path

import torch

from service.contracts import ClipSpec
from service.model.factory import Network, build_network
from service.model.weights.checkpoint import read_checkpoint
from service.model.weights.inflate import inflate
from service.model.weights.matching import assign_weights
from service.model.weights.resizing import start_from
from service.training.camera_motion.initialize import initialize_for_motion
from service.training.config import MovesData, TrainConfig
from service.training.served_weights import served_weights


def clip_spec(config: TrainConfig) -> ClipSpec:
    """How clips are decoded for the network."""
    network, run = config.network_config(2), config.run
    short_side = run.resize_short_side or round(8 / 7 * min(network.height, network.width))
    if run.resize_short_side is None and run.clip_format == "yuv420":
        short_side += short_side % 2
    return ClipSpec(
        frames=network.frames,
        frame_step=run.frame_step,
        reference_fps=run.reference_fps,
        sampling="time",
        height=network.height,
        width=network.width,
        resize_short_side=short_side,
        resize="swscale_bilinear",
        framing=config.data.framing if isinstance(config.data, MovesData) else "crop",
        clip_format=run.clip_format,
    )


def make_network(config: TrainConfig, classes: int) -> Network:
    """The network of a run with its first weights, which depend on the seed alone.

    Raises ValueError for a start that is not known or does not fit the network, and OSError where its file is missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        network = build_network(config.network_config(classes))
    start = config.network.get("start", "xavier")
    if isinstance(start, dict):
        _take_weights(network, start)
    elif start == "motion":
        initialize_for_motion(network, config.run.seed)
    elif start != "xavier":
        raise ValueError(f"start must be 'xavier' or 'motion', not {start!r}")
    return network


def _take_weights(network: Network, start: dict[str, str]) -> None:
    match start:
        case {"video": path, **rest} if not rest:
            start_from(network, read_checkpoint(Path(path)))
        case {"image": path, **rest} if not rest:
            inflate(network, read_checkpoint(Path(path)))
        case {"served": path, **rest} if not rest:
            assign_weights(network, served_weights(Path(path)))
        case _:
            ways = "{video = PATH}, {image = PATH} or {served = PATH}"
            raise ValueError(f"start must name one file, {ways}, not {start}")
