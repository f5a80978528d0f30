"""From uint8 clips to what the networks take, or the networks to what uint8 clips are."""

import torch
from torch import Tensor, nn

from service.model.layers import PatchEmbedding

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Scale to 0..1, standardize each color by the ImageNet mean and deviation, and put colors first."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        """RGB clips uint8 `(B, T, H, W, 3)` to floating `(B, 3, T, H, W)` of the buffers' dtype.

        Raises ValueError where the clips are not uint8.
        """
        if clips.dtype != torch.uint8:
            raise ValueError("clips must be uint8")
        return (clips * self.scale + self.shift).permute(0, 4, 1, 2, 3)


def fold_normalization(stem: PatchEmbedding) -> None:
    """Change the patch embedding so that it takes the uint8 values that `Normalize` would have standardized.

    Both are linear, so that the embedding is the same up to rounding, and a pass over all pixels is spared.
    """
    normalize = Normalize().to(stem.weight.device)
    colors = (1, 3, 1, 1, 1)
    with torch.no_grad():
        weight = stem.weight.double()
        shift = (weight * normalize.shift.double().view(colors)).flatten(1).sum(dim=1)
        stem.bias.copy_(stem.bias.double() + shift)
        stem.weight.copy_(weight * normalize.scale.double().view(colors))
