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


def has_spatial_map(config: VidTrConfig | SequenceConfig) -> bool:
    """Whether one class token reads all that is classified, so that `for_inference` can give a spatial map."""
    return isinstance(config, SequenceConfig) or config.class_tokens == "both"


def for_inference(network: Network, *, spatial: bool = False) -> Network:
    """A copy in eval mode that leaves out what no output depends on; its outputs are those of `network`.

    In the last layer nothing reads the tokens that are not classified, so their output projection and MLP are not
    computed. The ablations without a temporal class row classify a mean of tokens and need all of them. With `spatial`
    the copy has `with_map`; raises ValueError where the network has no spatial map.
    """
    if spatial and not has_spatial_map(network.config):
        raise ValueError(f"form {network.config.form} classifies a mean of tokens: no class token says where it looked")
    served = copy.deepcopy(network).eval()
    for layer in served.encoder.layers:
        cast(EncoderLayer, layer).spatial = spatial
    if has_spatial_map(served.config):
        cast(EncoderLayer, served.encoder.layers[-1]).cls_only = True
    return served
