"""Small networks that several tests share."""

from typing import Any, TypedDict

import torch
from torch import Tensor

from service.model.config import NetworkConfig, SequenceConfig, VidTrConfig
from service.model.factory import Network, build_network
from service.model.layers import EncoderLayer
from service.model.sequence import SequenceVidTr
from service.model.vidtr import VidTr


class Sizes(TypedDict):
    """What every network needs but its classes."""

    height: int
    width: int
    frames: int
    patch: int
    depth: int
    heads: int
    dim: int
    mlp_dim: int


class Schedule(TypedDict, total=False):
    """How a network pools, and what a schedule asks of the rest."""

    frames: int
    pooling: tuple[tuple[int, int], ...]
    separable_layers: int


TINY: dict[str, int] = {
    "height": 16,
    "width": 24,
    "frames": 6,
    "patch": 8,
    "depth": 3,
    "heads": 2,
    "dim": 16,
    "mlp_dim": 24,
    "classes": 4,
}
POOLED: Schedule = {"pooling": ((0, 4), (2, 2))}
HALVED: Schedule = {"frames": 8, "pooling": ((0, 4), (1, 2))}
RELEASED: Schedule = {"pooling": ((0, 4), (1, 2)), "separable_layers": 2}


def tiny_config(**changes: Any) -> VidTrConfig:
    return VidTrConfig(**{**TINY, **changes})


def tiny_sequence_config(**changes: Any) -> SequenceConfig:
    return SequenceConfig(**{**TINY, **changes})


# Every form of network, with the settings that change its code path.
VARIANTS: dict[str, VidTrConfig | SequenceConfig] = {
    "vidtr": tiny_config(),
    "vidtr every layer": tiny_config(positions="every_layer", activation="relu"),
    "vidtr separate": tiny_config(qkv="separate", positions="first_layer"),
    "frame": tiny_config(qkv="separate", selection="frame", **POOLED),
    "location": tiny_config(selection="location", positions="first_layer", **POOLED),
    "head and location": tiny_config(selection="head_location", second_softmax=True, dropout=0.1, **POOLED),
    "avg": tiny_config(pooling_method="avg", **HALVED),
    "avg separate": tiny_config(pooling_method="avg", qkv="separate", **HALVED),
    "conv": tiny_config(pooling_method="conv", **HALVED),
    "conv separate": tiny_config(pooling_method="conv", qkv="separate", **HALVED),
    "spatial tokens": tiny_config(class_tokens="spatial"),
    "no tokens": tiny_config(class_tokens="none", qkv="separate", positions="first_layer"),
    "spatial first": tiny_config(class_tokens="none", order="spatial_first"),
    "vanilla": tiny_sequence_config(dropout=0.1),
    "vanilla every layer": tiny_sequence_config(positions="every_layer", joint_value_positions=True),
    "hybrid": tiny_sequence_config(separable_layers=2, positions="every_layer", activation="gelu"),
    "released": tiny_sequence_config(**RELEASED),
}


def sharp(config: NetworkConfig, *, seed: int = 0, sharpness: float = 4.0) -> Network:
    """A network in eval mode whose attention is far from even, so that a wrong map shows in the numbers."""
    assert isinstance(config, VidTrConfig | SequenceConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "in_proj" in name or "_proj.weight" in name:
                parameter.mul_(sharpness)
            if "pos_embedding" in name or name.startswith("cls"):
                parameter.mul_(20)
            if "pool.weight" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return network


def tiny_network(*, seed: int = 0, sharpness: float = 4.0, **changes: Any) -> VidTr:
    network = sharp(tiny_config(**changes), seed=seed, sharpness=sharpness)
    assert isinstance(network, VidTr)
    return network


def tiny_sequence_network(*, seed: int = 0, **changes: Any) -> SequenceVidTr:
    network = sharp(tiny_sequence_config(**changes), seed=seed)
    assert isinstance(network, SequenceVidTr)
    return network


def layers(network: Network) -> list[EncoderLayer]:
    """The layers in order, with their type, which a `ModuleList` does not tell."""
    return [layer for layer in network.encoder.layers if isinstance(layer, EncoderLayer)]


def random_clips(network: Network, batch: int, *, seed: int = 0) -> Tensor:
    c = network.config
    return torch.randn(batch, 3, c.frames, c.height, c.width, generator=torch.Generator().manual_seed(seed))


def random_uint8(config: NetworkConfig, batch: int, *, seed: int = 0) -> Tensor:
    shape = (batch, config.frames, config.height, config.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
