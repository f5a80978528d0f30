"""The state of a run in one safetensors file, replaced in one step: a kill leaves the old one or the new one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_AVERAGED = "ema."


def save_state(
    path: Path, network: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, float]
) -> None:
    """Write weights, averaged weights, the optimizer's tensors, and `facts` such as the step."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("network", network), ("ema", ema)):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items() if value is not None}
    partial = path.with_name(path.name + ".partial")
    save_file(
        {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, partial, {"facts": json.dumps(facts)}
    )
    os.replace(partial, path)


def load_averaged(path: Path, network: nn.Module) -> None:
    """Give a network the averaged weights of a run's state.

    Raises RuntimeError where the file is of another network.
    """
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_AVERAGED)]
        network.load_state_dict({name.removeprefix(_AVERAGED): file.get_tensor(name) for name in names})


def load_state(path: Path, network: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Put everything back and return the facts.

    Raises RuntimeError where the file is of another network.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        facts: dict[str, float] = json.loads(file.metadata()["facts"])
    for prefix, module in (("network.", network), (_AVERAGED, ema)):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    saved = optimizer.state_dict()
    saved["state"] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            saved["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(saved)
    return facts
