"""From a configuration to the source of clips that a run trains on."""

from __future__ import annotations

from pathlib import Path

from service.training.config import LabeledData, MomentsData, MovesData, TrainConfig
from service.training.moments_source import GeneratedMoments
from service.training.motion_source import Generated
from service.training.moves_source import GeneratedMoves
from service.training.start import clip_spec
from service.training.videos_source import Videos
from service.video.config import VideoLimits


def make_source(
    config: TrainConfig, limits: VideoLimits, cache: Path
) -> Generated | GeneratedMoves | GeneratedMoments | Videos:
    """The data of a run; decoded clips are kept in `cache`.

    Raises ValueError where the data do not fit the configuration.
    """
    network = config.network_config(2)
    if odd := clip_spec(config).odd_sizes:
        raise ValueError(f"clip_format yuv420 needs even sizes, not {odd}")
    if not isinstance(config.data, LabeledData):
        if network.height != network.width:
            raise ValueError(f"generated clips are square, not {network.height}x{network.width}")
        shape = (network.frames, network.height, network.height // network.patch, config.run.seed)
        if isinstance(config.data, MovesData):
            return GeneratedMoves(config.data, *shape, config.run.clip_format, config.run.renderers)
        if isinstance(config.data, MomentsData):
            return GeneratedMoments(
                config.data, network.frames, network.height, config.run.seed, config.run.clip_format
            )
        return Generated(config.data, *shape, config.run.clip_format)
    return Videos(config.data, clip_spec(config), limits, cache, config.run.seed)
