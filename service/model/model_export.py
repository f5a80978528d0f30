"""From a network to a model repository entry that Triton and the in-process backend both serve."""

import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.contracts import ClipFormat, Precision
from service.model.card import ModelCard
from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network, for_inference
from service.model.layers import NetworkOutput
from service.model.preprocess import fold_normalization, yuv420_to_rgb
from service.model.repository_entry import write_version
from service.model.triton_config import clip_shape
from service.model.triton_options import TritonOptions
from service.reference_clips import ReferenceLogits, reference_clips

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ExportModule(nn.Module):
    """The network as it is served: uint8 clips in, a flat tuple of float32 tensors out.

    A copy for inference, in float32 or lower precision, of which norms, the softmax of the temporal map and the
    deviations that topK_std compares stay in float32.
    """

    def __init__(self, network: Network, precision: Precision = "fp32", *, spatial: bool = False) -> None:
        super().__init__()
        self.network = for_inference(network, spatial=spatial).float()
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
        return _flat(self.network(_planes(clips)))


def _planes(clips: Tensor) -> Tensor:
    if clips.dtype != torch.uint8:
        raise ValueError("clips must be uint8")
    return clips.permute(0, 4, 1, 2, 3)


def _flat(scores: NetworkOutput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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


class SpatialModule(nn.Module):
    """The network as it is served, which returns where it looked too: one output more."""

    def __init__(self, served: ExportModule, clip_format: ClipFormat) -> None:
        super().__init__()
        config, self.served = served.network.config, served
        self.rows, self.columns = config.height // config.patch, config.width // config.patch
        self.yuv420 = clip_format == "yuv420"

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Score uint8 clips; see `ExportModule`. The last output is `spatial_attention (B, T, H/p, W/p)`, float32.

        It is the map of `service.model.spatial_map`.
        """
        if self.yuv420:
            clips = yuv420_to_rgb(clips)
        scores, where = self.served.network.with_map(_planes(clips))
        logits, attention, layers, retention = _flat(scores)
        return logits, attention, layers, retention, torch.unflatten(where, 2, [self.rows, self.columns])


class EmbeddingModule(nn.Module):
    """The network as it is served, which returns what its head reads too: one output more."""

    def __init__(self, served: ExportModule, clip_format: ClipFormat) -> None:
        super().__init__()
        self.head = served.network.fc
        # What the network then calls its logits is the feature that it classifies.
        served.network.fc = nn.Identity()  # type: ignore[assignment]
        self.served = served
        self.yuv420 = clip_format == "yuv420"

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Score uint8 clips; see `ExportModule`. The last output is `embedding (B, d)`, float32, rows of length 1."""
        if self.yuv420:
            clips = yuv420_to_rgb(clips)
        feature, attention, layers, retention = self.served(clips)
        logits = _logits_of(feature, self.head.weight, self.head.bias)
        return logits, attention, layers, retention, _of_length_one(feature)


class SpatialEmbeddingModule(nn.Module):
    """The network as it is served, which returns where it looked and what its head reads: two outputs more."""

    def __init__(self, served: ExportModule, clip_format: ClipFormat) -> None:
        super().__init__()
        self.head = served.network.fc
        served.network.fc = nn.Identity()  # type: ignore[assignment]
        self.spatial = SpatialModule(served, clip_format)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Score uint8 clips; the last outputs are those of `SpatialModule` and of `EmbeddingModule`."""
        feature, attention, layers, retention, where = self.spatial(clips)
        logits = _logits_of(feature, self.head.weight, self.head.bias)
        return logits, attention, layers, retention, where, _of_length_one(feature)


def _logits_of(feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    # Tensors, not the head: TorchScript compiles a function once, and for the head of one size only.
    return F.linear(feature.to(weight.dtype), weight, bias).float()


def _of_length_one(feature: Tensor) -> Tensor:
    return feature / feature.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def served_module(
    model: Network,
    precision: Precision = "fp32",
    clip_format: ClipFormat = "rgb",
    *,
    embedding: bool = False,
    spatial: bool = False,
) -> nn.Module:
    """The network as it is served: takes uint8 clips in `clip_format`, and returns what else it is asked for.

    Raises ValueError where `spatial` attention is asked of a network that has none.
    """
    served = ExportModule(model, precision, spatial=spatial).to("cpu").eval()
    if spatial:
        kind = SpatialEmbeddingModule if embedding else SpatialModule
        return kind(served, clip_format).eval()
    if embedding:
        return EmbeddingModule(served, clip_format).eval()
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
    is. The configuration keeps the logits of the reference clips where the network is in float32. Weights hashes and
    logits of the other versions stay in it, and so does how Triton serves the model unless `serving` says it anew. With
    `replace` the other versions are deleted, whatever configuration they needed. The same weights, exported by a fresh
    process, give the same bytes.

    Raises ValueError where the name or version cannot be served, where `card` does not fit the network, and where
    older versions of the model need another configuration: they would be served with this one.
    """
    _check(model, card)
    served = served_module(model, card.precision, card.clip_format, embedding=card.embedding, spatial=card.spatial)
    reference = _reference(served, model.config, card) if card.precision == "fp32" else None
    return write_version(
        directory,
        name,
        version,
        model.config,
        card,
        _archive(served),
        serving=serving,
        replace=replace,
        reference=reference,
    )


def _reference(served: nn.Module, config: VidTrConfig | SequenceConfig, card: ModelCard) -> ReferenceLogits:
    """What the module says of the reference clips, one by one, as a batch of the largest networks takes gigabytes."""
    clips = torch.from_numpy(reference_clips(clip_shape(config, card.clip_format)))
    with torch.inference_mode():
        logits = torch.cat([served(clip)[0] for clip in clips.split(1)])
    return ReferenceLogits.of(logits.numpy())


def _check(model: Network, card: ModelCard) -> None:
    config = model.config
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


def _archive(served: nn.Module) -> bytes:
    for module in served.modules():
        # Scripting writes constants in the order of a set of strings, which differs from process to process, so that
        # equal weights gave unequal files. Attributes keep their order; only a shape has to be a constant.
        constants = ["normalized_shape"] if isinstance(module, nn.LayerNorm) else []
        module.__constants__ = constants  # type: ignore[assignment]
    return scripted_archive(served)


def scripted_archive(served: nn.Module) -> bytes:
    """The bytes of a TorchScript file of a module, scripted unless it is already."""
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
