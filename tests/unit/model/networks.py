"""Small networks that several tests share."""

from typing import Any

import torch
from torch import Tensor

from service.model.config import VidTrConfig
from service.model.vidtr import VidTr

TINY = {
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
POOLED = {"pooling": ((0, 4), (2, 2))}


def tiny_config(**changes: Any) -> VidTrConfig:
    return VidTrConfig(**{**TINY, **changes})


def tiny_network(*, seed: int = 0, sharpness: float = 4.0, **changes: Any) -> VidTr:
    """A network in eval mode whose attention is far from even, so that a wrong map shows in the numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VidTr(tiny_config(**changes)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "in_proj" in name or "_proj.weight" in name:
                parameter.mul_(sharpness)
            if "pos_embedding" in name or "cls_" in name:
                parameter.mul_(20)
    return network


def random_clips(network: VidTr, batch: int, *, seed: int = 0) -> Tensor:
    c = network.config
    return torch.randn(batch, 3, c.frames, c.height, c.width, generator=torch.Generator().manual_seed(seed))


def random_uint8(config: VidTrConfig, batch: int, *, seed: int = 0) -> Tensor:
    shape = (batch, config.frames, config.height, config.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
