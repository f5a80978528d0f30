"""Reads the tensors of a checkpoint file, whatever its container, and never runs code from it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from service.model.weights.nesting import Nested, check_nesting
from service.model.weights.restricted_pickle import Inert, load_tensors

_PREFIX = "module."


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint, or whose weights do not fit the network."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of the file by name, on the CPU, in the types and shapes they were saved with.

    The container is told by content: safetensors, a PyTorch archive, or a NumPy archive. A PyTorch archive may hold the
    tensors at the top or under `model`, beside anything else, which is left out. Objects of foreign classes in it are
    not loaded and their code is not run. One leading `module.`, as data-parallel training leaves it, is taken off each
    name.

    Raises CheckpointError naming the file, and the entry where one is to blame; OSError where it cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        return _weights(path, _read_safetensors(path))
    if zipfile.is_zipfile(path) and _is_numpy(path):
        return _weights(path, _read_numpy(path))
    return _weights(path, _read_torch(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged safetensors file ({error})") from error


def _is_numpy(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_numpy(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path}: damaged NumPy archive ({error})") from error


def _read_torch(path: Path) -> Any:
    try:
        check_nesting(path)
    except (Nested, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged PyTorch archive ({error})") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as refusal:
        # PyTorch names no class of error for a file that it refuses: a foreign class, damage and a strange format all
        # look alike. Only an archive can be read without it.
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path}: neither a safetensors file nor a PyTorch or NumPy archive that can be read safely"
            ) from refusal
    try:
        return load_tensors(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: damaged PyTorch archive ({error})") from error


def _weights(path: Path, content: Any) -> dict[str, Tensor]:
    where = "the file"
    if isinstance(content, Mapping) and "model" in content and not isinstance(content["model"], Tensor):
        content, where = content["model"], "its entry 'model'"
    if not isinstance(content, Mapping):
        kind = "an object of a foreign class" if isinstance(content, Inert) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path}: {where} holds {kind} instead of named tensors")
    weights: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise CheckpointError(f"{path}: {where} has a name that is a {type(key).__name__} and no text")
        name = key.removeprefix(_PREFIX)
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {key!r} is no tensor")
        if name in weights:
            raise CheckpointError(f"{path}: {name!r} is there twice, with and without {_PREFIX!r}")
        weights[name] = value
    if not weights:
        raise CheckpointError(f"{path}: {where} holds no tensors")
    return weights
