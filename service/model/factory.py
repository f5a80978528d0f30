"""The network that a configuration describes."""

from __future__ import annotations

import copy
from typing import TypeAlias, cast

from service.model.config import SequenceConfig, VidTrConfig
from service.model.layers import EncoderLayer
from service.model.sequence import SequenceVidTr
from service.model.vidtr import VidTr

Network: TypeAlias = VidTr | SequenceVidTr
"""Takes normalized clips, floating `(B, 3, T, H, W)`, and returns `NetworkOutput`; `config` describes it."""


def build_network(config: VidTrConfig | SequenceConfig) -> Network:
    """A fresh network in training mode; its weights come from torch's global random state."""
    return SequenceVidTr(config) if isinstance(config, SequenceConfig) else VidTr(config)


def for_inference(network: Network) -> Network:
    """A copy in eval mode that leaves out what no output depends on; its outputs are those of `network`.

    In the last layer nothing reads the tokens that are not classified, so their output projection and MLP are not
    computed. The ablations without a temporal class row classify a mean of tokens and need all of them.
    """
    served = copy.deepcopy(network).eval()
    if isinstance(served, SequenceVidTr) or served.config.class_tokens == "both":
        cast(EncoderLayer, served.encoder.layers[-1]).cls_only = True
    return served
