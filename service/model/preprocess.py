"""From uint8 clips to what the networks take, or the networks to what uint8 clips are.

The conversions between RGB and 4:2:0 are integer arithmetic, so that every device and every batch gives the same
numbers, in training, evaluation and serving. They follow BT.601 with limited range, to 16 binary places: swscale reads
what a file does not say otherwise as that, so that most videos need no change of their matrix.
"""

import torch
from torch import Tensor, nn

from service.contracts import ClipFormat
from service.model.layers import PatchEmbedding

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def yuv420_to_rgb(clips: Tensor) -> Tensor:
    """RGB uint8 `(..., H, W, 3)` of 4:2:0 pictures uint8 `(..., 3H/2, W, 1)`: Y `H x W`, U and V `H/2 x W/2`.

    Each pixel takes the color of its 2 x 2 block. Raises ValueError where the pictures are not uint8 of that shape.
    """
    if clips.dtype != torch.uint8:
        raise ValueError("clips must be uint8")
    rows, width = clips.size(-3), clips.size(-2)
    if clips.size(-1) != 1 or rows % 3 != 0 or width % 2 != 0:
        raise ValueError("clips must be 4:2:0: (..., 3H/2, W, 1) with even H and W")
    height = rows // 3 * 2
    pixels = height * width
    leading = list(clips.size())[:-3]
    blocks = leading + [height // 2, 2, width // 2, 2]  # noqa: RUF005 - TorchScript
    colors = leading + [height // 2, 1, width // 2, 1]  # noqa: RUF005 - TorchScript
    samples = clips.flatten(-3)
    y = samples[..., :pixels].reshape(blocks).to(torch.int32) * 76309 + (32768 - 16 * 76309)
    u = samples[..., pixels : pixels // 4 * 5].reshape(colors).to(torch.int32) - 128
    v = samples[..., pixels // 4 * 5 :].reshape(colors).to(torch.int32) - 128
    planes = [
        ((y + color) >> 16).clamp(0, 255).to(torch.uint8)
        for color in (v * 104597, -(u * 25675 + v * 53279), u * 132201)
    ]
    # Planes side by side are written, and read by the network, three times as fast as pixels of three bytes.
    shape = leading + [3, height, width]  # noqa: RUF005 - TorchScript
    return torch.stack(planes, dim=-5).reshape(shape).movedim(-3, -1)


def rgb_to_yuv420(clips: Tensor) -> Tensor:
    """4:2:0 pictures uint8 `(..., 3H/2, W, 1)` of RGB uint8 `(..., H, W, 3)`; a block's color is that of its mean.

    Raises ValueError where H or W is odd.
    """
    height, width = clips.shape[-3:-1]
    if height % 2 or width % 2:
        raise ValueError(f"4:2:0 has even sizes, not {height}x{width}")
    r, g, b = clips.to(torch.int32).unbind(-1)
    y = (16829 * r + 33039 * g + 6416 * b + (16 << 16) + (1 << 15)) >> 16
    leading = clips.shape[:-3]
    blocks = (*leading, height // 2, 2, width // 2, 2)
    r, g, b = (color.reshape(blocks).sum(dim=(-1, -3), dtype=torch.int32) for color in (r, g, b))
    u = (28784 * b - 9714 * r - 19070 * g + (128 << 18) + (1 << 17)) >> 18
    v = (28784 * r - 24103 * g - 4681 * b + (128 << 18) + (1 << 17)) >> 18
    samples = torch.cat([plane.flatten(-2) for plane in (y, u, v)], dim=-1)
    return samples.to(torch.uint8).reshape(*leading, height * 3 // 2, width, 1)


def as_rgb(clips: Tensor) -> Tensor:
    """RGB uint8 `(..., H, W, 3)` of clips in either format."""
    return yuv420_to_rgb(clips) if clips.size(-1) == 1 else clips


def as_served(clips: Tensor, clip_format: ClipFormat) -> Tensor:
    """RGB clips uint8 `(..., H, W, 3)` as a model sees them whose clips travel in `clip_format`, in RGB again."""
    return yuv420_to_rgb(rgb_to_yuv420(clips)) if clip_format == "yuv420" else clips


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
        """Clips uint8 `(B, T, H, W, 3)`, or `(B, T, 3H/2, W, 1)` in 4:2:0, to `(B, 3, T, H, W)` of the buffers' dtype.

        Raises ValueError where the clips are not uint8.
        """
        if clips.dtype != torch.uint8:
            raise ValueError("clips must be uint8")
        return (as_rgb(clips) * self.scale + self.shift).permute(0, 4, 1, 2, 3)


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
