"""Checkpoint files as other programs write them, and networks to fit them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network, build_network

SIZE: dict[str, Any] = {
    "height": 16,
    "width": 24,
    "frames": 4,
    "patch": 8,
    "depth": 3,
    "heads": 2,
    "dim": 16,
    "mlp_dim": 24,
    "classes": 5,
    "activation": "relu",
    "positions": "first_layer",
}
VIDTR = VidTrConfig(**SIZE)
VANILLA = SequenceConfig(**SIZE)
HYBRID = SequenceConfig(**SIZE, separable_layers=1)
CVIDTR = SequenceConfig(**SIZE, separable_layers=2, pooling=((0, 3), (1, 2)))
RELEASED: dict[str, VidTrConfig | SequenceConfig] = {
    "vidtr": VIDTR,
    "vanilla": VANILLA,
    "hybrid": HYBRID,
    "cvidtr": CVIDTR,
}


def network(config: VidTrConfig | SequenceConfig, *, seed: int = 0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(config).eval()


def logits(model: Network) -> Tensor:
    c = model.config
    clips = torch.randn(2, 3, c.frames, c.height, c.width, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        result: Tensor = model(clips).logits
    return result


def parallel(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as data-parallel training saves them."""
    return {f"module.{name}": tensor for name, tensor in weights.items()}


@contextmanager
def foreign_config() -> Iterator[Any]:
    """A configuration object as yacs makes them, of a class that is gone once the block ends."""

    class CfgNode(dict[str, Any]):
        def __init__(self, values: dict[str, Any]) -> None:
            super().__init__(values)
            self.__dict__["__immutable__"] = True

    package, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    sys.modules |= {"yacs": package, "yacs.config": module}
    try:
        yield CfgNode({"MODEL": CfgNode({"NAME": "vidtr", "DROPS": [2, 2]}), "TRAIN": CfgNode({"LR": 0.01})})
    finally:
        del sys.modules["yacs"], sys.modules["yacs.config"]


def save_as_trained(weights: Mapping[str, Tensor], path: Path) -> Path:
    """A training checkpoint of the released code: `module.` names under `model`, with its config and other state."""
    model = network(VIDTR)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with foreign_config() as config:
        content = {
            "model": parallel(weights),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": {"milestones": [25, 40]},
            "max_accuracy": 77.7,
            "epoch": 49,
            "config": config,
        }
        torch.save(content, path)
    return path
