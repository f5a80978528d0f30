"""The network that a configuration describes."""

from __future__ import annotations

from typing import TypeAlias

from service.model.config import SequenceConfig, VidTrConfig
from service.model.sequence import SequenceVidTr
from service.model.vidtr import VidTr

Network: TypeAlias = VidTr | SequenceVidTr
"""Takes normalised clips, floating `(B, 3, T, H, W)`, and returns `Scores`; `config` is what it was built from."""


def build_network(config: VidTrConfig | SequenceConfig) -> Network:
    """A fresh network in training mode; its weights come from torch's global random state."""
    return SequenceVidTr(config) if isinstance(config, SequenceConfig) else VidTr(config)
