"""What a model's configuration says of it: how it is fed and what its outputs mean.

The in-process backend gives it the file, the Triton backend the answer of the ModelConfig call, which is the same
protobuf message.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic import ValidationError
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from service.contracts import SCHEMA_VERSION, EventRules, Faithfulness, ModelSpec
from service.model_config import ModelConfigError, parameters_of

INPUT = "clips"

# Computed from the configuration. Every other field of a ModelSpec is copied from the parameter of its name; pydantic
# parses and checks it.
_DERIVED = {
    *("name", "version", "weights_sha256", "labels", "thresholds", "qualifiers", "events", "height"),
    *("width", "layers", "spatial_grid", "embedding", "max_batch_size", "route", "arithmetic", "faithfulness"),
}
_PLAIN = [name for name in ModelSpec.model_fields if name not in _DERIVED]
_IMAGE_SIZE = re.compile(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def spec_from_config(config: ModelConfig, version: str) -> ModelSpec:
    """The ModelSpec of one version of a model.

    `config` is Triton's `inference.ModelConfig` message, from `service.model_config` or from the ModelConfig call.

    Raises:
        ModelConfigError: a parameter is missing or has no usable value, or the parameters contradict the tensors.
    """
    parameters = parameters_of(config)
    height, width = _image_size(config, parameters)
    labels = _labels(config, parameters)
    weights_sha256 = _weights_sha256(config, parameters, version)
    fields: dict[str, Any] = {key: parameters[key] for key in _PLAIN if key in parameters}
    fields |= {
        "name": config.name,
        "version": version,
        "weights_sha256": weights_sha256,
        "labels": labels,
        "thresholds": _thresholds(config, parameters, labels),
        "qualifiers": _qualifiers(config, parameters, labels),
        "events": _events(config, parameters, labels),
        "height": height,
        "width": width,
        "layers": parameters.get("layers", _output_size(config, "layer_attention")),
        "spatial_grid": _grid(config),
        "embedding": _output_size(config, "embedding"),
        "faithfulness": _faithfulness(config, parameters, weights_sha256),
        "max_batch_size": config.max_batch_size,
    }
    try:
        spec = ModelSpec(**fields)
    except ValidationError as error:
        raise _from_pydantic(config, error) from error
    _check_values(spec)
    _check_tensors(config, spec)
    return spec


def _from_pydantic(config: ModelConfig, error: ValidationError) -> ModelConfigError:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0])
    if field not in ("name", "max_batch_size"):
        field = f"parameter {field!r}"
    if first["type"] == "missing":
        return ModelConfigError(config.name, field, "missing", "a value")
    expected = first["msg"].removeprefix("Input should be ")
    return ModelConfigError(config.name, field, repr(first["input"]), expected)


def _required(config: ModelConfig, parameters: dict[str, str], key: str) -> str:
    if key not in parameters:
        raise ModelConfigError(config.name, f"parameter {key!r}", "missing", "a value")
    return parameters[key]


def _image_size(config: ModelConfig, parameters: dict[str, str]) -> tuple[int, int]:
    text = _required(config, parameters, "image_size")
    match = _IMAGE_SIZE.fullmatch(text)
    if match is None:
        raise ModelConfigError(config.name, "parameter 'image_size'", repr(text), "'SIDE' or 'HEIGHTxWIDTH' in pixels")
    height = int(match[1])
    return height, int(match[2] or height)


def _labels(config: ModelConfig, parameters: dict[str, str]) -> list[str]:
    text = _required(config, parameters, "labels")
    labels = _json(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ModelConfigError(config.name, "parameter 'labels'", repr(text), "a JSON list of non-empty strings")
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ModelConfigError(config.name, "parameter 'labels'", f"repeating {repeated}", "distinct labels")
    return labels


def _thresholds(config: ModelConfig, parameters: dict[str, str], labels: list[str]) -> list[float]:
    text = parameters.get("thresholds")
    if text is None:
        return []
    found = _json(text)
    if not isinstance(found, dict) or set(found) != set(labels) or not all(map(_is_share, found.values())):
        raise ModelConfigError(
            config.name,
            "parameter 'thresholds'",
            repr(text),
            "a JSON object of a number between 0 and 1 for each label",
        )
    if parameters.get("activation") != "sigmoid":
        raise ModelConfigError(
            config.name, "parameter 'thresholds'", repr(text), "nothing without activation 'sigmoid'"
        )
    return [float(found[label]) for label in labels]


def _qualifiers(config: ModelConfig, parameters: dict[str, str], labels: list[str]) -> list[str]:
    text = parameters.get("qualifiers")
    if text is None:
        return []
    found = _json(text)
    if not isinstance(found, list) or not all(label in labels for label in found) or len(found) == len(labels):
        raise ModelConfigError(config.name, "parameter 'qualifiers'", repr(text), "a JSON list of some of the labels")
    if "thresholds" not in parameters:
        raise ModelConfigError(config.name, "parameter 'qualifiers'", repr(text), "nothing without thresholds")
    return found


def _events(config: ModelConfig, parameters: dict[str, str], labels: list[str]) -> EventRules:
    text = parameters.get("events")
    if text is None:
        return EventRules()
    found = _json(text)
    if not isinstance(found, dict) or not found.keys() <= EventRules.model_fields.keys():
        known = ", ".join(EventRules.model_fields)
        raise ModelConfigError(config.name, "parameter 'events'", repr(text), f"a JSON object with some of {known}")
    try:
        rules = EventRules.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelConfigError(
            config.name, f"parameter 'events', {place}", repr(first["input"]), first["msg"]
        ) from None
    named = {*rules.thresholds, *rules.shortest, *rules.transitions}
    if foreign := sorted(named - set(labels)):
        raise ModelConfigError(config.name, "parameter 'events'", f"naming {foreign}", "some of the labels")
    if "thresholds" not in parameters:
        raise ModelConfigError(config.name, "parameter 'events'", repr(text), "nothing without thresholds")
    return rules


def _faithfulness(config: ModelConfig, parameters: dict[str, str], weights_sha256: str) -> Faithfulness | None:
    """What was measured of these weights: of others it says nothing."""
    text = parameters.get("faithfulness")
    if text is None:
        return None
    found = _json(text)
    if not isinstance(found, dict) or not all(_SHA256.fullmatch(key) for key in found):
        raise ModelConfigError(
            config.name, "parameter 'faithfulness'", repr(text), "a JSON object of weights' SHA-256: what was measured"
        )
    if weights_sha256 not in found:
        return None
    try:
        return Faithfulness.model_validate(found[weights_sha256])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelConfigError(
            config.name, f"parameter 'faithfulness', {place}", repr(first["input"]), first["msg"]
        ) from None


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1


def _weights_sha256(config: ModelConfig, parameters: dict[str, str], version: str) -> str:
    text = _required(config, parameters, "weights_sha256")
    digests = _json(text)
    if not isinstance(digests, dict):
        raise ModelConfigError(
            config.name, "parameter 'weights_sha256'", repr(text), "a JSON object of version: SHA-256"
        )
    digest = digests.get(version)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ModelConfigError(
            config.name, f"parameter 'weights_sha256' of version {version}", repr(digest), "64 hexadecimal digits"
        )
    return digest


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _output_size(config: ModelConfig, name: str) -> int:
    """The first dimension of an output that is declared; 0 where it is not."""
    return next((o.dims[0] for o in config.output if o.name == name and o.dims), 0)


def _grid(config: ModelConfig) -> list[int] | None:
    """Rows and columns of the attention in space; None where it is not declared."""
    dims = next((list(o.dims) for o in config.output if o.name == "spatial_attention"), None)
    if dims is not None and (len(dims) != 3 or min(dims) < 1):
        raise ModelConfigError(config.name, "output 'spatial_attention' dims", dims, "[frames, rows, columns]")
    return None if dims is None else dims[1:]


def _check_values(spec: ModelSpec) -> None:
    if spec.schema_version > SCHEMA_VERSION:
        raise ModelConfigError(
            spec.name, "parameter 'schema_version'", spec.schema_version, f"at most {SCHEMA_VERSION}"
        )
    if not math.isfinite(spec.reference_fps):
        raise ModelConfigError(spec.name, "parameter 'reference_fps'", spec.reference_fps, "a finite number")
    if spec.resize_short_side < min(spec.height, spec.width):
        raise ModelConfigError(
            spec.name,
            "parameter 'resize_short_side'",
            spec.resize_short_side,
            f"at least {min(spec.height, spec.width)}, the short side of image_size",
        )
    if spec.odd_sizes:
        raise ModelConfigError(spec.name, "parameter 'clip_format'", f"'yuv420' with {spec.odd_sizes}", "even sizes")


def _check_tensors(config: ModelConfig, spec: ModelSpec) -> None:
    _check_names(config, "input", tuple(tensor.name for tensor in config.input), (INPUT,))
    _check_names(config, "output", tuple(tensor.name for tensor in config.output), tuple(spec.outputs))
    _check_tensor(config, "input", config.input[0], "TYPE_UINT8", list(spec.clip_shape))
    # In the order of forward's tuple: Triton pairs them by position.
    for tensor, shape in zip(config.output, spec.outputs.values(), strict=True):
        _check_tensor(config, "output", tensor, "TYPE_FP32", list(shape))


def _check_names(config: ModelConfig, kind: str, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if names != expected:
        raise ModelConfigError(config.name, f"{kind} names", list(names), f"{list(expected)} in this order")


def _check_tensor(config: ModelConfig, kind: str, tensor: Any, data_type: str, shape: list[int]) -> None:
    field = f"{kind} {tensor.name!r}"
    found = DataType.Name(tensor.data_type)
    if found != data_type:
        raise ModelConfigError(config.name, f"{field} data_type", found, data_type)
    if list(tensor.dims) != shape:
        raise ModelConfigError(config.name, f"{field} dims", list(tensor.dims), f"{shape}, as the parameters say")
