"""The text of a model's `config.pbtxt`: what Triton needs to serve it, and what the service needs to feed it.

Written line by line rather than printed from a message: the lines of an operator, comments and all, survive an export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from service.contracts import SCHEMA_VERSION, ClipFormat, output_shapes
from service.doublings import doublings
from service.model.card import ModelCard
from service.model.config import SequenceConfig, VidTrConfig
from service.model.triton_options import TritonOptions
from service.reference_clips import PARAMETER

_WARMUP_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """What has to be said of a network that is not built here: sizes of its clips in pixels, and what it returns.

    There is no attention among that, and `embedding` is 0 where it returns none.
    """

    form: str
    frames: int
    height: int
    width: int
    classes: int
    embedding: int = 0
    backend: Literal["pytorch", "onnxruntime"] = "pytorch"
    depth: Literal[0] = 0


Described: TypeAlias = VidTrConfig | SequenceConfig | ForeignNetwork

_OF_TORCHSCRIPT = {
    "DISABLE_OPTIMIZED_EXECUTION": "true",
    # The networks have no branches that could run side by side.
    "INTER_OP_THREAD_COUNT": "1",
}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def triton_config(
    name: str,
    config: Described,
    card: ModelCard,
    weights_sha256: Mapping[str, str],
    serving: str | None = None,
    references: Mapping[str, object] | None = None,
) -> str:
    """Protobuf text of the ModelConfig that serves `config` under `name`.

    `weights_sha256` maps each version to the SHA-256 of its model.pt, and `references` some of them to their
    `ReferenceLogits` as JSON keeps them; `serving` is a `TritonOptions.block`, that of the defaults when None. Equal
    arguments give equal text.

    By default there is no batching delay, because the worker already sends whole batches; the queue holds back what
    arrives meanwhile and refuses the rest. Optimized execution is off: it profiles and recompiles at batch sizes that
    it has not met, which stalls single requests, and attention gains nothing from it.
    """
    clip = _dims(*clip_shape(config, card.clip_format))
    foreign = config if isinstance(config, ForeignNetwork) else None
    backend = foreign.backend if foreign else "pytorch"
    embedding = config.embedding if isinstance(config, ForeignNetwork) else config.dim * card.embedding
    outputs = output_shapes(config.classes, config.frames, config.depth, embedding, _grid(config, card))
    lines = [
        f"name: {quote(name)}",
        f'backend: "{backend}"',
        f"max_batch_size: {card.max_batch_size}",
        f'input {{ name: "clips" data_type: TYPE_UINT8 dims: {clip} }}',
        *(f'output {{ name: "{key}" data_type: TYPE_FP32 dims: {_dims(*shape)} }}' for key, shape in outputs.items()),
        (serving or TritonOptions().block(card.max_batch_size)).removesuffix("\n"),
        *(_warmup(size, clip) for size in doublings(card.max_batch_size)),
        *(_parameter(key, value) for key, value in _parameters(config, card, weights_sha256).items()),
        *([_parameter(PARAMETER, _by_version(references))] if references else []),
    ]
    return "\n".join(lines) + "\n"


def clip_shape(config: Described, clip_format: ClipFormat) -> tuple[int, int, int, int]:
    """The shape of one clip as it reaches the network, uint8: see `service.contracts.ClipSpec.clip_shape`."""
    if clip_format == "yuv420":
        return (config.frames, config.height * 3 // 2, config.width, 1)
    return (config.frames, config.height, config.width, 3)


def _grid(config: Described, card: ModelCard) -> tuple[int, int] | None:
    if isinstance(config, ForeignNetwork) or not card.spatial:
        return None
    return config.height // config.patch, config.width // config.patch


def quote(value: str) -> str:
    """A protobuf text string literal on one line."""
    return '"' + "".join(_ESCAPES.get(c, c if c >= " " and c != "\x7f" else f"\\{ord(c):03o}") for c in value) + '"'


def _parameters(config: Described, card: ModelCard, weights_sha256: Mapping[str, str]) -> dict[str, str]:
    square = config.height == config.width
    onnx = isinstance(config, ForeignNetwork) and config.backend == "onnxruntime"
    return {
        **({} if onnx else _OF_TORCHSCRIPT),
        "schema_version": str(SCHEMA_VERSION),
        "description": card.description,
        "form": config.form,
        "trained": "true" if card.trained else "false",
        "labels": json.dumps(card.labels, ensure_ascii=False),
        "activation": card.activation,
        **_thresholds(card),
        **({"qualifiers": json.dumps(card.qualifiers, ensure_ascii=False)} if card.qualifiers else {}),
        **({"events": card.events.model_dump_json(exclude_defaults=True)} if card.events is not None else {}),
        "frames": str(config.frames),
        "frame_step": str(card.frame_step),
        "reference_fps": f"{card.reference_fps:.12g}",
        "sampling": card.sampling,
        "image_size": str(config.height) if square else f"{config.height}x{config.width}",
        "resize_short_side": str(card.resize_short_side),
        "resize": card.resize,
        **({"framing": card.framing} if card.framing != "crop" else {}),
        **({"clip_format": card.clip_format} if card.clip_format != "rgb" else {}),
        "precision": card.precision,
        "layers": str(config.depth),
        "weights_sha256": _by_version(weights_sha256),
    }


def _by_version(values: Mapping[str, object]) -> str:
    return json.dumps(dict(sorted(values.items(), key=lambda item: int(item[0]))))


def _thresholds(card: ModelCard) -> dict[str, str]:
    if not card.thresholds:
        return {}
    named = {label: round(value, 4) for label, value in zip(card.labels, card.thresholds, strict=True)}
    return {"thresholds": json.dumps(named, ensure_ascii=False)}


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {quote(key)} value {{ string_value: {quote(value)} }} }}"


def _warmup(size: int, clip: str) -> str:
    tensor = f'inputs {{ key: "clips" value {{ data_type: TYPE_UINT8 dims: {clip} zero_data: true }} }}'
    return f'model_warmup {{ name: "batch_{size}" batch_size: {size} count: {_WARMUP_RUNS} {tensor} }}'


def _dims(*sizes: int) -> str:
    return "[ " + ", ".join(map(str, sizes)) + " ]"
