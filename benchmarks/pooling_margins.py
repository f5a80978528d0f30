"""How close the selections of topK_std were: where two deviations are nearly equal, rounding decides between frames.

Two forwards of the same weights that round differently may then keep different frames, and their scores are apart by
more than rounding. With random weights one clip in five has such a tie among its some thousand selections, so that
forwards are compared on clips that have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.model.pooling import TopKStd
from service.model.preprocess import Normalize


class SelectionGaps:
    """Notes, at every pooling of a network, the distance between the last frame that stays and the first that goes."""

    def __init__(self, network: nn.Module) -> None:
        self._gaps: list[Tensor] = []
        poolings = [module for module in network.modules() if isinstance(module, TopKStd)]
        self._hooks = [pooling.register_forward_pre_hook(self._note) for pooling in poolings]

    def _note(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(module, TopKStd)
        deviation = arguments[0][:, :, :, int(module.class_row) :].std(dim=-1)  # (B, h, P, t)
        if module.selection == "frame":
            deviation = deviation.mean(dim=(1, 2), keepdim=True)
        elif module.selection == "location":
            deviation = deviation.mean(dim=1, keepdim=True)
        deviation = deviation.sort(dim=-1, descending=True)[0]
        gap = deviation[..., module.keep - 1] - deviation[..., module.keep]  # (B, h, P)
        self._gaps.append(gap.amin(dim=(1, 2)))

    def take(self) -> Tensor:
        """The smallest gap of each clip `(B,)` since the last call, which was one forward ago."""
        smallest = torch.stack(self._gaps).amin(dim=0)
        self._gaps.clear()
        return smallest

    def remove(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()


def clearest_clips(network: nn.Module, candidates: Tensor, count: int) -> Tensor:
    """The `count` clips whose smallest gap is the largest, of uint8 candidates `(N, T, H, W, 3)`.

    The first ones where the network selects nothing.
    """
    if not any(isinstance(module, TopKStd) for module in network.modules()):
        return candidates[:count]
    gaps, normalize = SelectionGaps(network), Normalize()
    smallest = []
    with torch.inference_mode():
        for clip in torch.split(candidates, 1):
            network(normalize(clip))
            smallest.append(gaps.take())
    gaps.remove()
    return candidates[torch.cat(smallest).topk(count)[1]]
