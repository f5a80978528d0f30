"""The weights of a served model, to go on training from where its run is not at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from service.inference.torchscript_archive import load_archive
from service.model.preprocess import Normalize

_PREFIX = "network."


def served_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a TorchScript file that `vidtr export` wrote, by their names in the network, in float32.

    The patch embedding takes standardized colors again: what `fold_normalization` did is undone, up to rounding. Raises
    what `load_archive` raises, and ValueError for a file that holds no network of this service.
    """
    state = load_archive(path).state_dict()
    weights = {name.removeprefix(_PREFIX): tensor.float() for name, tensor in state.items() if name.startswith(_PREFIX)}
    if "conv_stem.weight" not in weights:
        raise ValueError(f"{path} holds no network that this service exported")
    normalize, colors = Normalize(), (1, 3, 1, 1, 1)
    with torch.no_grad():
        weight = weights["conv_stem.weight"].double() / normalize.scale.double().view(colors)
        shift = (weight * normalize.shift.double().view(colors)).flatten(1).sum(1)
        weights["conv_stem.weight"] = weight.float()
        weights["conv_stem.bias"] = (weights["conv_stem.bias"].double() - shift).float()
    return weights
