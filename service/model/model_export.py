"""From a network to a model repository entry that Triton and the in-process backend both serve."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from service.contracts import ClipFormat, Precision
from service.model.card import ModelCard
from service.model.factory import Network, for_inference
from service.model.preprocess import fold_normalization, yuv420_to_rgb
from service.model.triton_config import triton_config
from service.model.triton_options import TritonOptions, read_block, with_block
from service.model_config import CONFIG_FILE, parameters_of, parse_config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# What may differ between versions of one model, since Triton keeps one configuration for all of them.
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OF_A_VERSION = frozenset({"weights_sha256", "description"})


class ExportModule(nn.Module):
    """The network as it is served: uint8 clips in, a flat tuple of float32 tensors out.

    A copy for inference, in float32 or lower precision, of which norms, the softmax of the temporal map and the
    deviations that topK_std compares stay in float32.
    """

    def __init__(self, network: Network, precision: Precision = "fp32") -> None:
        super().__init__()
        self.network = for_inference(network).float()
        fold_normalization(self.network.conv_stem)
        self.network.to(_DTYPES[precision])
        for module in self.network.modules():
            if isinstance(module, nn.LayerNorm):
                module.float()

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score RGB clips, uint8 `(B, T, H, W, 3)`.

        Returns `logits (B, K)`, `temporal_attention (B, T)`, `layer_attention (B, L, T)` and
        `layer_retention (B, L, T)`, all float32. Raises ValueError where the clips are not uint8.
        """
        if clips.dtype != torch.uint8:
            raise ValueError("clips must be uint8")
        scores = self.network(clips.permute(0, 4, 1, 2, 3))
        return (
            scores.logits.float(),
            scores.temporal_attention,
            scores.layer_attention,
            scores.layer_retention,
        )


class Yuv420Module(nn.Module):
    """What `ExportModule` computes of RGB clips, of clips in 4:2:0."""

    def __init__(self, served: ExportModule) -> None:
        super().__init__()
        self.served = served

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score clips uint8 `(B, T, 3H/2, W, 1)`; see `ExportModule`."""
        scores: tuple[Tensor, Tensor, Tensor, Tensor] = self.served(yuv420_to_rgb(clips))
        return scores


def served_module(model: Network, precision: Precision = "fp32", clip_format: ClipFormat = "rgb") -> nn.Module:
    """The network as it is served: takes uint8 clips in `clip_format`."""
    served = ExportModule(model, precision).to("cpu").eval()
    return Yuv420Module(served).eval() if clip_format == "yuv420" else served


def export_model(
    model: Network,
    directory: Path,
    *,
    name: str,
    version: int,
    card: ModelCard,
    serving: TritonOptions | None = None,
    replace: bool = False,
) -> Path:
    """Write `<directory>/<name>/<version>/model.pt` and `<directory>/<name>/config.pbtxt`; return the model's folder.

    The module is scripted, not traced: a traced one keeps the device it was traced on. `model` itself is left as it
    is. Weights hashes of the other versions stay in the configuration, and so does how Triton serves the model unless
    `serving` says it anew. With `replace` the other versions are deleted, whatever configuration they needed. The same
    weights, exported by a fresh process, give the same bytes.

    Raises ValueError where the name or version cannot be served, where `card` does not fit the network, and where
    older versions of the model need another configuration: they would be served with this one.
    """
    _check(model, name, version, card)
    folder = directory / name
    config_path = folder / CONFIG_FILE
    previous = config_path.read_text(encoding="utf-8") if config_path.exists() else None
    hashes = _hashes(previous, name)
    hashes.pop(str(version), None)
    replaced = [earlier for earlier in hashes if earlier.isdecimal()] if replace else []
    hashes = {} if replace else hashes
    if previous is not None and hashes:
        planned = triton_config(name, model.config, card, {}, read_block(previous))
        if _shared(parse_config(previous, name)) != _shared(parse_config(planned, name)):
            raise ValueError(
                f"version {version} of {name} needs another configuration than versions {', '.join(hashes)}, "
                "and Triton keeps one for all: export it under a new name, or replace them"
            )
    block = None if previous is None else read_block(previous)
    if serving is not None:
        block = serving.block(card.max_batch_size)
    weights = _archive(served_module(model, card.precision, card.clip_format))
    hashes[str(version)] = hashlib.sha256(weights).hexdigest()
    _write(folder / str(version) / "model.pt", weights)
    # Last, so that a reader who sees the new hash also finds the file.
    _write(config_path, triton_config(name, model.config, card, hashes, block).encode())
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


def _check(model: Network, name: str, version: int, card: ModelCard) -> None:
    config = model.config
    if not _NAME.fullmatch(name):
        raise ValueError(f"model name {name!r} must be letters, digits and ._- only")
    if version < 1:
        raise ValueError(f"version must be at least 1, not {version}")
    if len(card.labels) != config.classes:
        raise ValueError(f"the network has {config.classes} classes, but there are {len(card.labels)} labels")
    if card.resize_short_side < min(config.height, config.width):
        raise ValueError(
            f"resize_short_side ({card.resize_short_side}) is too small for crops of {config.height}x{config.width}"
        )
    sizes = {"height": config.height, "width": config.width, "resize_short_side": card.resize_short_side}
    odd = [f"{name} {size}" for name, size in sizes.items() if size % 2]
    if odd and card.clip_format == "yuv420":
        raise ValueError(f"clip_format yuv420 needs even sizes, not {', '.join(odd)}: export the model as rgb")


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


def _archive(served: nn.Module) -> bytes:
    for module in served.modules():
        # Scripting writes constants in the order of a set of strings, which differs from process to process, so that
        # equal weights gave unequal files. Attributes keep their order; only a shape has to be a constant.
        constants = ["normalized_shape"] if isinstance(module, nn.LayerNorm) else []
        module.__constants__ = constants  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # Deprecated, yet the only format that Triton's PyTorch backend batches.
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.(script|save)` is deprecated", category)
        path = Path(scratch, "model.pt")
        torch.jit.save(torch.jit.script(served), path)
        return _without_debug_records(path)


def _without_debug_records(path: Path) -> bytes:
    """The archive less its source locations, which hold paths of the exporting machine and are never needed."""
    stripped = path.with_suffix(".stripped")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(stripped, "w") as target:
        for record in source.infolist():
            if not record.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(record.filename), source.read(record))
    return stripped.read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
