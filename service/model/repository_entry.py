"""Entries of a model repository: the file of a version, and the configuration of all versions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from service.contracts import Faithfulness
from service.model.card import ModelCard
from service.model.triton_config import Described, ForeignNetwork, quote, triton_config
from service.model.triton_options import TritonOptions, read_block, with_block
from service.model_config import CONFIG_FILE, parameters_of, parse_config
from service.reference_clips import PARAMETER, ReferenceLogits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# What may differ between versions of one model, since Triton keeps one configuration for all of them.
MEASURED = "faithfulness"
_OF_A_VERSION = frozenset({"weights_sha256", "description", PARAMETER, MEASURED})
_MEASURED_LINE = re.compile(rf'^parameters \{{ key: "{MEASURED}" value .*\n', re.M)


def write_version(
    directory: Path,
    name: str,
    version: int,
    config: Described,
    card: ModelCard,
    weights: bytes,
    *,
    serving: TritonOptions | None = None,
    replace: bool = False,
    reference: ReferenceLogits | None = None,
) -> Path:
    """Write `<directory>/<name>/<version>/` with the file and `<directory>/<name>/config.pbtxt`; return the folder.

    Of the other versions the hashes of the weights, the reference logits and what was measured stay in the
    configuration, and so does how Triton serves the model unless `serving` says it anew. With `replace` the other
    versions are deleted, whatever configuration they needed. `reference` is what a network in float32 says of the
    reference clips.

    Raises ValueError where the name or version cannot be served, and where older versions of the model need another
    configuration: they would be served with this one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"model name {name!r} must be letters, digits and ._- only")
    if version < 1:
        raise ValueError(f"version must be at least 1, not {version}")
    folder = directory / name
    config_path = folder / CONFIG_FILE
    previous = config_path.read_text(encoding="utf-8") if config_path.exists() else None
    hashes = _hashes(previous, name)
    hashes.pop(str(version), None)
    replaced = [earlier for earlier in hashes if earlier.isdecimal()] if replace else []
    hashes = {} if replace else hashes
    references = {of: entry for of, entry in _references(previous, name).items() if of in hashes}
    if reference is not None:
        references[str(version)] = reference.to_dict()
    if previous is not None and hashes:
        planned = triton_config(name, config, card, {}, read_block(previous))
        if _shared(parse_config(previous, name)) != _shared(parse_config(planned, name)):
            raise ValueError(
                f"version {version} of {name} needs another configuration than versions {', '.join(hashes)}, "
                "and Triton keeps one for all: export it under a new name, or replace them"
            )
    block = None if previous is None else read_block(previous)
    if serving is not None:
        block = serving.block(card.max_batch_size)
    hashes[str(version)] = hashlib.sha256(weights).hexdigest()
    _write(folder / str(version) / _file_name(config), weights)
    # Last, so that a reader who sees the new hash also finds the file.
    text = triton_config(name, config, card, hashes, block, references)
    _write(config_path, _with_measured(text, _measured(previous, name)).encode())
    for earlier in replaced:
        shutil.rmtree(folder / earlier, ignore_errors=True)
    return folder


def configure_model(directory: Path, *, name: str, serving: TritonOptions) -> Path:
    """Write anew how Triton serves a model of the repository; return the model's folder.

    Raises ValueError where `serving` does not fit the model or its config.pbtxt was not written by the exporter, and
    OSError where there is none.
    """
    path = directory / name / CONFIG_FILE
    text = path.read_text(encoding="utf-8")
    block = serving.block(parse_config(text, name).max_batch_size)
    _write(path, with_block(text, block).encode())
    return path.parent


def keep_faithfulness(folder: Path, weights_sha256: str, found: Faithfulness) -> Path:
    """Write what was measured of weights of the model in `folder` into its configuration; return that file.

    Raises ValueError where no version has these weights or the configuration was not written by the exporter, and
    OSError where there is none.
    """
    path, name = folder / CONFIG_FILE, folder.name
    text = path.read_text(encoding="utf-8")
    if weights_sha256 not in _hashes(text, name).values():
        raise ValueError(f"no version of {name} has the weights {weights_sha256} that were measured")
    measured = {**_measured(text, name), weights_sha256: found.model_dump(mode="json")}
    _write(path, _with_measured(text, measured).encode())
    return path


def _measured(config: str | None, name: str) -> dict[str, object]:
    """What was measured, by the SHA-256 of weights."""
    value = None if config is None else parameters_of(parse_config(config, name)).get(MEASURED)
    found = {} if value is None else json.loads(value)
    if not isinstance(found, dict):
        raise ValueError(f"parameter {MEASURED!r} of {name} is {value!r}, no JSON object: remove it")
    return found


def _with_measured(config: str, measured: dict[str, object]) -> str:
    """The text with what was measured of the weights that it has; of others nothing is kept."""
    weights = _hashes(config, "config").values()
    kept = {sha256: found for sha256, found in measured.items() if sha256 in weights}
    rest = _MEASURED_LINE.sub("", config)
    if MEASURED in parameters_of(parse_config(rest, "config")):
        raise ValueError(f"config.pbtxt has a parameter {MEASURED!r} that is not on a line of its own: remove it")
    if not kept:
        return rest
    line = f'parameters {{ key: "{MEASURED}" value {{ string_value: {quote(json.dumps(kept))} }} }}\n'
    return f"{rest}{line}" if rest.endswith("\n") else f"{rest}\n{line}"


def _file_name(config: Described) -> str:
    onnx = isinstance(config, ForeignNetwork) and config.backend == "onnxruntime"
    return "model.onnx" if onnx else "model.pt"


def _shared(config: ModelConfig) -> ModelConfig:
    """What all versions of a model have in common."""
    for name in _OF_A_VERSION:
        config.parameters.pop(name, None)
    return config


def _hashes(config: str | None, name: str) -> dict[str, str]:
    if config is None:
        return {}
    value = parameters_of(parse_config(config, name)).get("weights_sha256")
    if value is None:
        raise ValueError(f"the config.pbtxt of {name} was not written by this exporter: move it away first")
    return {str(version): str(digest) for version, digest in json.loads(value).items()}


def _references(config: str | None, name: str) -> dict[str, object]:
    stored = None if config is None else parameters_of(parse_config(config, name)).get(PARAMETER)
    return {} if stored is None else dict(json.loads(stored))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
