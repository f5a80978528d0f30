"""What the bundled model makes of generated clips with a cut, with the maps by which topK_std chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from service.inference.registry import ModelFile, scan_repository
from service.inference.torchscript_archive import load_archive
from service.model.config import VidTrConfig
from service.model.factory import build_network, for_inference
from service.model.layers import NetworkOutput
from service.model.pooling import TopKStd
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.model.presets import CAMERA_MOVE_LABELS
from service.model.vidtr import VidTr
from service.training.camera_motion.generator import Batch, CameraMotion, GeneratorConfig
from service.training.camera_motion.textures import texture_bank
from service.training.config import read_config
from service.training.motion_source import TEXTURE_SCALE
from service.training.served_weights import network_weights

ROOT = Path(__file__).parents[1]
CUT = LABELS.index("cut")
CONFIGS = {LABELS: "camera_motion.toml", CAMERA_MOVE_LABELS: "camera_moves.toml"}
"""Of each set of labels, the configuration that trains it."""
CANDIDATES = 96


@dataclass(frozen=True)
class Choice:
    """What topK_std chose among in one layer, for one clip."""

    layer: int
    """Counted from 1."""
    deviations: dict[int, float]
    """For each frame still alive, by its number in the clip, the deviation of its rows of the temporal map."""
    kept: tuple[int, ...]

    @property
    def gap(self) -> float:
        """From the least deviation that was kept to the largest that was dropped."""
        dropped = [value for frame, value in self.deviations.items() if frame not in self.kept]
        return min(self.deviations[frame] for frame in self.kept) - max(dropped)


@dataclass(frozen=True)
class ClipExplanation:
    """One clip with a cut, and what the model made of it."""

    clip: Tensor
    """uint8 `(T, H, W, 3)`."""
    cut: int
    """The last frame before the cut."""
    scores: NetworkOutput
    """Without the dimension of the batch."""
    choices: tuple[Choice, ...]


def shipped_model(root: Path = ROOT) -> ModelFile:
    """The newest version of the bundled model."""
    found = [file for file in scan_repository(root / "model_repository") if file.spec.name == "camera_motion"]
    return max(found, key=lambda file: int(file.spec.version))


def shipped_network(root: Path = ROOT) -> VidTr:
    """The bundled model as a network whose maps can be seen; it takes pixel values as the served file does.

    Raises KeyError where no configuration in `configs` has its labels, and RuntimeError where the one that has is not
    that of the file.
    """
    file = shipped_model(root)
    served, labels = load_archive(file.path), file.spec.labels
    config = read_config(root / "configs" / CONFIGS[labels], ()).network_config(len(labels))
    network = for_inference(build_network(config))
    if not isinstance(network, VidTr):
        raise RuntimeError(f"the pictures show the grid of VidTr, not the form {config.form}")
    network.load_state_dict(network_weights(served))
    clips = cut_clips(network.config, 1).clips
    with torch.inference_mode():
        if not torch.allclose(served(clips)[1], score(network, clips).temporal_attention, atol=1e-5):
            raise RuntimeError(f"model.pt computes something else than a network of configs/{CONFIGS[labels]}")
    return network


def score(network: VidTr, clips: Tensor) -> NetworkOutput:
    """The scores of clips uint8 `(B, T, H, W, 3)`; the network's first layer standardizes colors."""
    with torch.inference_mode():
        scores: NetworkOutput = network(clips.permute(0, 4, 1, 2, 3))
        return scores


def cut_clips(config: VidTrConfig, count: int) -> Batch:
    """Clips with a cut over textures that are made up: no codec and no picture file has a part in them."""
    bank = texture_bank([], tiles_each=1, procedural=60, side=TEXTURE_SCALE * config.height, seed=0)
    generator = GeneratorConfig(frames=config.frames, side=config.height, degradation=False)
    return CameraMotion(bank, generator, seed=0).batch(torch.full((count,), CUT))


def look(network: VidTr, batch: Batch) -> list[ClipExplanation]:
    """What the network makes of each clip, and how topK_std chose in it."""
    layers = [number for number, _ in network.config.pooling]
    maps: list[Tensor] = []
    poolings = [module for module in network.modules() if isinstance(module, TopKStd)]
    hooks = [each.register_forward_pre_hook(lambda _, arguments: maps.append(arguments[0])) for each in poolings]
    try:
        scores = score(network, batch.clips)
    finally:
        for hook in hooks:
            hook.remove()
    deviations = [each[:, :, :, 1:].double().std(dim=-1).mean(dim=(1, 2)) for each in maps]  # (B, t)
    looked = []
    for i, clip in enumerate(batch.clips):
        alive, choices = tuple(range(network.frames)), []
        for layer, sigma in zip(layers, deviations, strict=True):
            kept = tuple(scores.layer_retention[i, layer].nonzero().flatten().tolist())
            choices.append(Choice(layer + 1, dict(zip(alive, sigma[i].tolist(), strict=True)), kept))
            alive = kept
        own = NetworkOutput(*(values[i] for values in scores))
        looked.append(ClipExplanation(clip, int(batch.cut[i]), own, tuple(choices)))
    return looked


def example(network: VidTr) -> tuple[ClipExplanation, list[ClipExplanation]]:
    """The clip of the pictures, and all that it was chosen from.

    It is the one whose choices were least close, so that rounding draws the same picture everywhere, among those that
    are cut in the middle and show it.
    """
    candidates = look(network, cut_clips(network.config, CANDIDATES))
    middle = network.frames // 2
    fitting = [each for each in candidates if each.cut in (middle - 1, middle) and _contrast(each) > 30]
    return max(fitting, key=lambda each: min(choice.gap for choice in each.choices)), candidates


def cut_goes_first(looked: ClipExplanation) -> bool:
    """Whether the first layer that drops frames drops both frames beside the cut."""
    return not {looked.cut, looked.cut + 1} & set(looked.choices[0].kept)


def _contrast(looked: ClipExplanation) -> float:
    before, after = (looked.clip[slot].float().mean(dim=(0, 1)) for slot in (looked.cut, looked.cut + 1))
    return float((before - after).abs().mean())
