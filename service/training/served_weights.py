"""The weights of a served model, to go on training from where its run is not at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from service.inference.torchscript_archive import load_archive
from service.model.preprocess import Normalize

_FIRST = "network.conv_stem.weight"


def network_weights(module: torch.jit.ScriptModule) -> dict[str, Tensor]:
    """What a loaded file of `vidtr export` holds of its network, by the names of the network, as it is.

    Empty for a file that holds no network of this service.
    """
    state: dict[str, Tensor] = module.state_dict()
    # A file that returns more, or takes clips in 4:2:0, holds the network at the end of a longer path.
    prefix = next((name.removesuffix("conv_stem.weight") for name in state if name.endswith(_FIRST)), None)
    if prefix is None:
        return {}
    weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    # One that returns an embedding holds the head beside the network.
    return weights | {f"fc.{name[5:]}": tensor for name, tensor in state.items() if name.startswith("head.")}


def served_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a TorchScript file that `vidtr export` wrote, by their names in the network, in float32.

    The patch embedding takes standardized colors again: what `fold_normalization` did is undone, up to rounding. Raises
    what `load_archive` raises, and ValueError for a file that holds no network of this service.
    """
    weights = {name: tensor.float() for name, tensor in network_weights(load_archive(path)).items()}
    if not weights:
        raise ValueError(f"{path} holds no network that this service exported")
    normalize, colors = Normalize(), (1, 3, 1, 1, 1)
    with torch.no_grad():
        weight = weights["conv_stem.weight"].double() / normalize.scale.double().view(colors)
        shift = (weight * normalize.shift.double().view(colors)).flatten(1).sum(1)
        weights["conv_stem.weight"] = weight.float()
        weights["conv_stem.bias"] = (weights["conv_stem.bias"].double() - shift).float()
    return weights
