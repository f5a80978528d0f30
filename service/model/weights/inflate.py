"""Start of a video network from an image ViT, as arXiv 2104.11746 starts its own.

Nothing is special about temporal attention: the one set of projections that the image network has per layer serves time
and space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network
from service.model.weights.checkpoint import CheckpointError
from service.model.weights.image_names import to_video_names
from service.model.weights.matching import assign_weights

_HEAD = ("fc.weight", "fc.bias")
_OWN_PROJECTION = re.compile(r"(.+\.self_attn\.)(?:temporal|spatial)_proj\.(weight|bias)")
_CONVOLUTION = re.compile(r".+\.self_attn\.pool\..+")


def inflate(network: Network, image: Mapping[str, Tensor]) -> list[str]:
    """Set the network's weights from those of an image ViT, all but the classification head, which stays as it is.

    `image` is as `read_checkpoint` gives it, in one of the spellings of `image_names`. Returns the names in it that
    the network has no use for, such as its own head and the layers beyond the network's depth.

    - The position table (1, S+1, d) is repeated for every row of a token grid, that of the temporal class tokens
      included. In a sequence, its class entry stands once and its S locations are repeated T times.
    - The class token (1, 1, d) is repeated as the spatial class token of every frame and as the temporal class token of
      every column.
    - A table for another grid of patches is resampled bicubically: the paper does not say what to do, this is our
      choice. The source is taken to be square, as image networks are, unless it has the network's number of locations
      and no square has that.
    - With projections of their own, time and space both start from the image's: our choice, too.

    Raises CheckpointMismatch where a weight is missing or has another shape, and CheckpointError as `to_video_names`
    does; the network is then unchanged.
    """
    source = to_video_names(image)
    current = network.state_dict()
    config = network.config
    weights: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in current:
        if name in _HEAD or _CONVOLUTION.fullmatch(name):
            weights[name] = current[name]
            continue
        origin = _origin(name)
        if origin in source:
            used.add(origin)
            weights[name] = _inflated(name, source[origin], config)
    assign_weights(network, weights)
    return [name for name in source if name not in used]


def _origin(name: str) -> str:
    if name in ("cls_s", "cls_t"):
        return "cls"
    if match := _OWN_PROJECTION.fullmatch(name):
        return f"{match[1]}in_proj_{match[2]}"
    return name


def _inflated(name: str, tensor: Tensor, config: VidTrConfig | SequenceConfig) -> Tensor:
    if name == "pos_embedding":
        return _positions(tensor, config)
    if name in ("cls_s", "cls_t"):
        if tensor.shape != (1, 1, config.dim):
            raise CheckpointError(f"cls is {tuple(tensor.shape)}, expected (1, 1, {config.dim})")
        return tensor.expand((config.frames, 1, -1) if name == "cls_s" else (1, config.locations + 1, -1))
    return tensor


def _positions(table: Tensor, config: VidTrConfig | SequenceConfig) -> Tensor:
    """Position table of the image, `(1, S'+1, d)`, to that of the network."""
    if table.dim() != 3 or table.size(0) != 1 or table.size(1) < 2:
        raise CheckpointError(f"pos_embedding is {tuple(table.shape)}, expected (1, locations + 1, {config.dim})")
    class_entry, locations = table[:, :1], resampled(table[:, 1:], config)
    if isinstance(config, SequenceConfig):
        return torch.cat([class_entry, locations.repeat(1, config.frames, 1)], dim=1)  # (1, 1 + T * S, d)
    row = locations if config.class_tokens == "none" else torch.cat([class_entry, locations], dim=1)
    return row.repeat(1, config.rows, 1)  # (1, rows * columns, d)


def resampled(locations: Tensor, config: VidTrConfig | SequenceConfig) -> Tensor:
    """Entries of the image's grid of patches, `(1, S', d)`, to the network's, `(1, S, d)`."""
    height, width = config.height // config.patch, config.width // config.patch
    count, side = locations.size(1), math.isqrt(locations.size(1))
    if (side, side) == (height, width) or (side * side != count and count == height * width):
        return locations
    if side * side != count:
        raise CheckpointError(f"pos_embedding has {count} locations, which make no square to resample to the network's")
    grid = locations.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, d, side, side)
    grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return grid.flatten(2).transpose(1, 2)  # (1, S, d)
