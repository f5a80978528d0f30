"""Video weights for another number of classes, of frames, or size of image: our choice, the paper is silent on it.

Tables of positions and class tokens are resampled, linearly in time and bicubically in space; a head for other classes
stays as the network has it. Everything else must fit as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network
from service.model.weights.checkpoint import CheckpointError
from service.model.weights.inflate import resampled
from service.model.weights.matching import assign_weights

_HEAD = ("fc.weight", "fc.bias")


def start_from(network: Network, video: Mapping[str, Tensor]) -> None:
    """Set the network's weights from those of a network of the same form, as `read_checkpoint` gives them.

    The source's frames and locations are read off its tables; locations are taken to be a square, unless they are as
    many as the network's.

    Raises CheckpointMismatch where a weight is missing or has another shape, and CheckpointError where a table cannot
    be resampled; the network is then unchanged.
    """
    config, current = network.config, network.state_dict()
    weights = dict(video)
    if "fc.weight" in weights and weights["fc.weight"].shape != current["fc.weight"].shape:
        weights |= {name: current[name] for name in _HEAD}
    if isinstance(config, SequenceConfig):
        _resize_sequence(weights, config)
    else:
        _resize_grid(weights, config)
    assign_weights(network, weights)


def _resize_sequence(weights: dict[str, Tensor], config: SequenceConfig) -> None:
    table = weights.get("pos_embedding")
    if table is None or table.shape[1:] == (1 + config.frames * config.locations, config.dim):
        return
    tokens = table.size(1) - 1
    frames = _other_factor(tokens, config)
    rows = table[0, 1:].view(frames, -1, config.dim)  # (T', S', d)
    resized = _in_space(_in_time(rows, config.frames), config)
    weights["pos_embedding"] = torch.cat([table[:, :1], resized.flatten(0, 1)[None]], dim=1)


def _other_factor(tokens: int, config: SequenceConfig) -> int:
    # A sequence does not say how its tokens divide into frames and locations: one of the two must be the network's.
    if tokens % config.locations == 0:
        return tokens // config.locations
    if tokens % config.frames == 0:
        return config.frames
    raise CheckpointError(
        f"pos_embedding has {tokens} tokens, neither for {config.frames} frames nor for {config.locations} locations"
    )


def _resize_grid(weights: dict[str, Tensor], config: VidTrConfig) -> None:
    table, spatial, temporal = (weights.get(name) for name in ("pos_embedding", "cls_s", "cls_t"))
    if table is None or spatial is None:
        return  # without class tokens nothing says how many frames there are: the table has to fit
    frames = spatial.size(0)
    first = int(temporal is not None)
    if table.size(1) % (frames + first):
        raise CheckpointError(f"pos_embedding has {table.size(1)} entries, not a multiple of {frames + first} rows")
    rows = table[0].view(frames + first, -1, config.dim)  # (R', P', d)
    rows = torch.cat([rows[:first], _in_time(rows[first:], config.frames)])
    rows = torch.cat([rows[:, :1], _in_space(rows[:, 1:], config)], dim=1)  # (R, P, d)
    weights["pos_embedding"] = rows.flatten(0, 1)[None]
    weights["cls_s"] = _in_time(spatial, config.frames)
    if temporal is not None:
        weights["cls_t"] = torch.cat([temporal[:, :1], _in_space(temporal[:, 1:], config)], dim=1)


def _in_time(rows: Tensor, frames: int) -> Tensor:
    """`(T', P, d)` to `(T, P, d)`."""
    if rows.size(0) == frames:
        return rows
    series = rows.float().permute(1, 2, 0)  # (P, d, T')
    return F.interpolate(series, frames, mode="linear", align_corners=False).permute(2, 0, 1)


def _in_space(rows: Tensor, config: VidTrConfig | SequenceConfig) -> Tensor:
    """`(R, S', d)` to `(R, S, d)`."""
    return torch.cat([resampled(row[None], config) for row in rows])
