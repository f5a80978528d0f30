"""Networks that can be built by name: the models of the VidTr release, and small ones that come with the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from service.contracts import ClipFormat, EventRules, Precision
from service.model.card import ModelCard
from service.model.config import Positions, SequenceConfig, VidTrConfig
from service.model.factory import Network, build_network
from service.model.labels import packaged_labels
from service.model.triton_options import TritonOptions

CAMERA_MOTION_LABELS = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_cw",
    "roll_ccw",
    "shake",
    "cut",
    "fade",
)


CAMERA_MOVE_LABELS = (*CAMERA_MOTION_LABELS, "handheld", "dissolve")
"""Names of independent scores: several may hold at once; `static` is what holds where no motion does."""

CAMERA_MOVE_QUALIFIERS = ("handheld",)
"""How the camera is held is said beside what it does."""
CAMERA_MOVE_EVENTS = EventRules(
    release=0.8, smoothing_s=0.3, shortest_s=0.5, transitions={"cut": "cut", "dissolve": "dissolve"}
)
"""Two labels name what the pictures show too; the numbers are the best on generated long videos."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network with random weights, and the card it is served with."""

    config: VidTrConfig | SequenceConfig
    make_card: Callable[[], ModelCard]
    """The card, made on demand so that naming a preset reads no labels."""
    seed: int = 2104
    reported_gflops: float | None = None
    """Cost of one clip as the authors of VidTr report it, where they do."""

    @property
    def card(self) -> ModelCard:
        """Labels and preprocessing of the network."""
        return self.make_card()


# ViT-B/16, on which all released models are built.
_VIT_BASE: dict[str, Any] = {
    "height": 224,
    "width": 224,
    "patch": 16,
    "depth": 12,
    "heads": 12,
    "dim": 768,
    "mlp_dim": 3072,
    "classes": 400,
    "activation": "relu",
    "dropout": 0.1,
    "head_dropout": 0.5,
}


def _positions(frames: int) -> Positions:
    # The released VidTr tests for 16 frames and no other number; C-VidTr does not.
    return "every_layer" if frames == 16 else "first_layer"


def _released(
    name: str, config: VidTrConfig | SequenceConfig, frame_step: int, reported_gflops: float | None = None
) -> Preset:
    """A model of the release, fed as in its test: every `frame_step`-th frame, the short side as large as the crop."""

    def card() -> ModelCard:
        return ModelCard(
            labels=packaged_labels("k400"),
            trained=False,
            description=f"{name} in the form of the released weights, for Kinetics-400; these weights are random.",
            frame_step=frame_step,
            reference_fps=30.0,
            resize_short_side=config.height,
            sampling="index",
            resize="opencv_bilinear",
        )

    return Preset(config=config, make_card=card, reported_gflops=reported_gflops)


def _vidtr(name: str, frames: int, frame_step: int, reported_gflops: float) -> Preset:
    config = VidTrConfig(**_VIT_BASE, frames=frames, positions=_positions(frames))
    return _released(name, config, frame_step, reported_gflops)


def _cvidtr(name: str, pooling: tuple[tuple[int, int], ...], frames: int, frame_step: int, gflops: float) -> Preset:
    separable_layers = pooling[-1][0] + 1
    config = SequenceConfig(**_VIT_BASE, frames=frames, pooling=pooling, separable_layers=separable_layers)
    return _released(name, config, frame_step, gflops)


def _vanilla(name: str, frames: int, frame_step: int) -> Preset:
    return _released(name, SequenceConfig(**_VIT_BASE, frames=frames, positions=_positions(frames)), frame_step)


def _untrained_tiny_card() -> ModelCard:
    return ModelCard(
        labels=CAMERA_MOTION_LABELS,
        trained=False,
        description="A small C-VidTr with random weights: it shows the service at work, its labels mean nothing.",
        frame_step=4,
        reference_fps=30.0,
        resize_short_side=72,
    )


PRESETS = {
    "untrained_tiny": Preset(
        config=VidTrConfig(
            height=64,
            width=64,
            frames=8,
            patch=16,
            depth=4,
            heads=4,
            dim=64,
            mlp_dim=128,
            classes=len(CAMERA_MOTION_LABELS),
            pooling=((1, 6), (2, 4)),
            selection="frame",
            qkv="separate",
            positions="tokens",
            activation="gelu",
        ),
        make_card=_untrained_tiny_card,
    ),
    "vidtr_s_8x8": _vidtr("VidTr-S", 8, 8, 89),
    "vidtr_m_16x4": _vidtr("VidTr-M", 16, 4, 179),
    "vidtr_l_32x2": _vidtr("VidTr-L", 32, 2, 351),
    "cvidtr_s_8x8": _cvidtr("C-VidTr-S", ((1, 6), (3, 4), (5, 2)), 8, 8, 39),
    "cvidtr_m_16x4": _cvidtr("C-VidTr-M", ((1, 8), (2, 4), (4, 2)), 16, 4, 59),
    "vanilla_8x8": _vanilla("Vanilla video transformer", 8, 8),
    "vanilla_16x4": _vanilla("Vanilla video transformer", 16, 4),
}


def build_preset(name: str) -> Network:
    """A fresh network in eval mode, the same weights every time; the global random state stays as it was.

    Raises ValueError for a name that is not in PRESETS.
    """
    preset = find_preset(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(preset.seed)
        return build_network(preset.config).eval()


def export_preset(
    name: str,
    repository: Path,
    precision: Precision = "fp32",
    serving: TritonOptions | None = None,
    clip_format: ClipFormat = "rgb",
    max_batch_size: int | None = None,
    *,
    embedding: bool = False,
    spatial: bool = False,
) -> Path:
    """Write the preset as version 1 of the model of that name into a model repository; return the model's folder.

    Raises ValueError as `build_preset` and `export_model` do.
    """
    # It writes what Triton reads, with Triton's own client, which a training does not need.
    from service.model.model_export import export_model

    card = replace(find_preset(name).card, precision=precision, clip_format=clip_format)
    card = replace(card, embedding=embedding, spatial=spatial)
    if max_batch_size is not None:
        card = replace(card, max_batch_size=max_batch_size)
    return export_model(build_preset(name), repository, name=name, version=1, card=card, serving=serving)


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises ValueError for a name that is not in PRESETS.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
