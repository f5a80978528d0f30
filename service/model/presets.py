"""Networks that can be built by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from service.model.card import ModelCard
from service.model.config import VidTrConfig
from service.model.export import export_model
from service.model.vidtr import VidTr

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


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network with random weights, and the card it is served with."""

    config: VidTrConfig
    card: ModelCard
    seed: int


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
        card=ModelCard(
            labels=CAMERA_MOTION_LABELS,
            trained=False,
            description="A small C-VidTr with random weights: it shows the service at work, its labels mean nothing.",
            frame_step=4,
            reference_fps=30.0,
            resize_short_side=72,
        ),
        seed=2104,
    ),
}


def build_preset(name: str) -> VidTr:
    """A fresh network in eval mode, the same weights every time; the global random state stays as it was.

    Raises ValueError for a name that is not in PRESETS.
    """
    preset = _preset(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(preset.seed)
        return VidTr(preset.config).eval()


def export_preset(name: str, repository: Path) -> Path:
    """Write the preset as version 1 of the model of that name into a model repository; return the model's folder.

    Raises ValueError as `build_preset` and `export_model` do.
    """
    return export_model(build_preset(name), repository, name=name, version=1, card=_preset(name).card)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
