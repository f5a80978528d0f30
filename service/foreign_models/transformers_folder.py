"""Video classifiers of the `transformers` library, from the folder in which it keeps a model.

Only `config.json`, `preprocessor_config.json` and `model.safetensors` are read: no pickle, and no code of the folder.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from service.foreign_models.description import ForeignModelError
from service.model.model_export import scripted_archive

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class _Kind:
    class_name: str
    frame_step: int
    """of the models that the authors of the network released, at 30 frames a second"""


KINDS = {
    "videomae": _Kind("VideoMAEForVideoClassification", 4),
    "timesformer": _Kind("TimesformerForVideoClassification", 32),
    "vivit": _Kind("VivitForVideoClassification", 2),
}


class _Traced(nn.Module):
    """Logits, and what the classifier gets: the embedding of the video."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.seen = torch.empty(0)
        model.classifier.register_forward_pre_hook(self._see)

    def _see(self, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.seen = given[0]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(pixel_values=pixel_values).logits
        return logits, self.seen


def read_folder(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The network of a folder as a TorchScript file, and what the folder says of it, for `description.describe`.

    Raises ForeignModelError where the folder lacks a file or weights, or holds another kind of network.
    """
    config = _json(folder, "config.json")
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise ForeignModelError(
            f"{folder} holds a network of type {config.get('model_type')!r}; it must be one of {', '.join(KINDS)}"
        )
    said = _clips(_json(folder, "preprocessor_config.json"))
    model = _model(folder, kind)
    size = model.config.image_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    frames = int(model.config.num_frames)
    if (cut := said.pop("size")) is not None and cut != (height, width):
        raise ForeignModelError(
            f"the preprocessor of {folder} cuts pictures of {cut[0]} x {cut[1]}, "
            f"and the network takes {height} x {width}"
        )
    traced = _trace(model, (2, frames, 3, height, width))
    labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
    return scripted_archive(traced), {
        "labels": labels,
        "frames": frames,
        "size": f"{height}x{width}",
        "layout": "NTCHW",
        "frame_step": kind.frame_step,
        "form": str(config["model_type"]),
        "logits": 0,
        "embedding": 1,
        **said,
    }


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignModelError(f"{folder} has no {name} that can be read: {error}") from error
    if not isinstance(found, dict):
        raise ForeignModelError(f"{folder / name} is no JSON object")
    return found


def _clips(preprocessor: dict[str, Any]) -> dict[str, Any]:
    """How clips are made, for `description.describe`; `size` is what is cut, None where that is not said."""
    size, crop = preprocessor.get("size") or {}, preprocessor.get("crop_size") or {}
    factor = float(preprocessor.get("rescale_factor", 1 / 255)) if preprocessor.get("do_rescale", True) else 1.0
    normalized = preprocessor.get("do_normalize", True)
    mean = [float(value) for value in preprocessor.get("image_mean", [0.5] * 3)] if normalized else [0.0] * 3
    std = [float(value) for value in preprocessor.get("image_std", [0.5] * 3)] if normalized else [1.0] * 3
    # That of ViViT moves its values from 0 .. 2 to -1 .. 1 before it normalizes them.
    offset = 1.0 if preprocessor.get("offset", False) and preprocessor.get("do_rescale", True) else 0.0
    said: dict[str, Any] = {"scale": 1 / factor, "mean": [value + offset for value in mean], "std": std}
    cut = crop if preprocessor.get("do_center_crop", True) and crop else size
    said["size"] = (int(cut["height"]), int(cut["width"])) if {"height", "width"} <= cut.keys() else None
    if "shortest_edge" in size:
        said["short_side"] = int(size["shortest_edge"])
    elif "height" in size:
        said["framing"] = "whole"
    return said


def _model(folder: Path, kind: _Kind) -> Any:
    if not (folder / _WEIGHTS).is_file():
        raise ForeignModelError(f"{folder} has no {_WEIGHTS}: other files of weights may run code, and are not read")
    _hide_broken_torchvision()
    library = importlib.import_module("transformers")
    library.utils.logging.disable_progress_bar()
    try:
        model, found = getattr(library, kind.class_name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ForeignModelError(f"transformers cannot load {folder}: {error}") from error
    if missing := sorted(found["missing_keys"]):
        raise ForeignModelError(f"{folder / _WEIGHTS} lacks {', '.join(missing)}: it is no trained classifier")
    return model.float().eval()


def _hide_broken_torchvision() -> None:
    """Transformers imports torchvision where it is installed, and fails with one that was built for another torch."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def _trace(model: Any, shape: tuple[int, ...]) -> torch.jit.ScriptModule:
    example = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), warnings.catch_warnings():
        # Of sizes that become constants, which clips of one size are free to be, and of TorchScript being deprecated.
        warnings.simplefilter("ignore")
        traced: torch.jit.ScriptModule = torch.jit.trace(_Traced(model), example, check_trace=False)
    return traced
