"""Finds the models of a directory in Triton's repository layout: `<model>/config.pbtxt`, `<model>/<version>/model.pt`,
or `model.onnx` where ONNX Runtime computes.

It follows Triton's rules (docs: "Model Repository", "Version Policy"), so that the in-process backend serves exactly
what a Triton server would serve from the same directory.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritonclient.grpc.model_config_pb2 import ModelConfig

from service.contracts import ModelSpec
from service.inference.spec import spec_from_config
from service.model_config import CONFIG_FILE, ModelConfigError, parameters_of, read_config
from service.reference_clips import PARAMETER, ReferenceLogits

# Triton ignores folders whose names are not numbers or start with zero; longer numbers than this overflow its int64.
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


Runtime = Literal["pytorch", "onnxruntime"]
_FILES: dict[Runtime, str] = {"pytorch": "model.pt", "onnxruntime": "model.onnx"}
# What Triton calls them in `backend`, and in `platform` of older configurations.
_RUNTIMES: dict[str, Runtime] = {
    "pytorch": "pytorch",
    "pytorch_libtorch": "pytorch",
    "onnxruntime": "onnxruntime",
    "onnxruntime_onnx": "onnxruntime",
}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model version on disk, its weights verified."""

    spec: ModelSpec
    path: Path
    runtime: Runtime
    reference: ReferenceLogits | None = None
    """None where the export kept none"""


def scan_repository(root: Path) -> list[ModelFile]:
    """All model versions that `root` serves, sorted by name and then by version number.

    Every visible subdirectory is a model. Which of its versions are served is up to its `version_policy`; without
    one it is the newest.

    Raises:
        ModelConfigError: a configuration is missing or wrong, a version has no file, or a file is not the one whose
            SHA-256 the configuration gives.
        NotADirectoryError: there is no directory at `root`.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"no model repository at {root}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [file for folder in folders for file in _scan_model(folder)]


def _scan_model(folder: Path) -> list[ModelFile]:
    config = read_config(folder / CONFIG_FILE)
    if (engine := config.backend or config.platform) not in _RUNTIMES:
        raise ModelConfigError(config.name, "backend", repr(engine), "'pytorch' or 'onnxruntime'")
    present = sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name))
    versions = _served_versions(config, present)
    if not versions:
        raise ModelConfigError(config.name, "version folders", present, "at least one that version_policy serves")
    return [_verified(config, folder, str(version)) for version in versions]


def _served_versions(config: ModelConfig, present: list[int]) -> list[int]:
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return present
        case "specific":
            if missing := sorted(set(policy.specific.versions) - set(present)):
                raise ModelConfigError(
                    config.name, "version_policy", f"asking for versions {missing}", f"some of {present}"
                )
            return [version for version in present if version in policy.specific.versions]
        case _:
            newest = max(1, policy.latest.num_versions)
            return present[-newest:]


def _verified(config: ModelConfig, folder: Path, version: str) -> ModelFile:
    spec = spec_from_config(config, version)
    runtime = _RUNTIMES[config.backend or config.platform]
    path = folder / version / (config.default_model_filename or _FILES[runtime])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelConfigError(config.name, f"file {version}/{path.name}", error.strerror, "a readable file") from error
    if digest != spec.weights_sha256:
        raise ModelConfigError(
            config.name,
            f"SHA-256 of {version}/{path.name}",
            digest,
            f"{spec.weights_sha256}, as parameter 'weights_sha256' says",
        )
    return ModelFile(spec, path, runtime, _reference(config, version, len(spec.labels)))


def _reference(config: ModelConfig, version: str, labels: int) -> ReferenceLogits | None:
    text = parameters_of(config).get(PARAMETER)
    if text is None:
        return None
    try:
        by_version = json.loads(text)
        if not isinstance(by_version, dict):
            raise ValueError("no object of versions")
        return ReferenceLogits.parse(by_version[version], labels) if version in by_version else None
    except ValueError as error:
        raise ModelConfigError(
            config.name, f"parameter {PARAMETER!r} of version {version}", f"not usable ({error})", "as it was exported"
        ) from error
