"""safetensors, the format in which this project keeps weights: tensors by name and nothing that could be run."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from service.model.weights.checkpoint import read_checkpoint
from service.model.weights.matching import assign_weights


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's weights under their own names, in their own types; an older file is replaced in one step.

    Raises OSError where the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, partial)
    os.replace(partial, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy the weights of a file, of `save_weights` or in any container that `read_checkpoint` knows, into the network.

    Raises CheckpointError where the file cannot be read and CheckpointMismatch where its weights do not fit; the
    network is then unchanged. Raises OSError where the file cannot be opened.
    """
    assign_weights(network, read_checkpoint(path))
