"""TorchScript modules that stand between the service's clips and a network from elsewhere."""

import torch
from torch import Tensor, nn

from service.foreign_models.description import ORDERS, Description


class Preparation(nn.Module):
    """uint8 clips `(B, T, H, W, 3)` as a network takes them: in its layout, and normalized where it takes floats."""

    __constants__ = ("order", "as_float", "scale")
    mean: Tensor
    std: Tensor

    def __init__(self, described: Description) -> None:
        super().__init__()
        self.order = list(ORDERS[described.layout])
        self.as_float = described.numbers == "float32"
        self.scale = described.scale
        self.register_buffer("mean", torch.tensor(described.mean))
        self.register_buffer("std", torch.tensor(described.std))

    def forward(self, clips: Tensor) -> Tensor:
        """The input of the network. Raises ValueError where the clips are not uint8."""
        if clips.dtype != torch.uint8:
            raise ValueError("clips must be uint8")
        prepared = clips
        if self.as_float:
            prepared = (clips.to(torch.float32) / self.scale - self.mean) / self.std
        return prepared.permute(self.order).contiguous()


class OneOutput(nn.Module):
    """A network that returns its logits `(B, K)`."""

    def __init__(self, network: nn.Module, described: Description) -> None:
        super().__init__()
        self.prepared = Preparation(described)
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Logits, float32."""
        return self.network(self.prepared(clips)).float()  # type: ignore[no-any-return]


class ChosenOutput(nn.Module):
    """A network that returns several tensors, of which one is the logits."""

    __constants__ = ("logits",)

    def __init__(self, network: nn.Module, described: Description) -> None:
        super().__init__()
        self.prepared = Preparation(described)
        self.network = network
        self.logits = described.logits

    def forward(self, clips: Tensor) -> Tensor:
        """Logits, float32."""
        return self.network(self.prepared(clips))[self.logits].float()  # type: ignore[no-any-return]


class ChosenOutputs(nn.Module):
    """A network that returns several tensors, of which one is the logits and another an embedding."""

    __constants__ = ("logits", "embedding")

    def __init__(self, network: nn.Module, described: Description) -> None:
        super().__init__()
        assert described.embedding is not None  # noqa: S101 - chosen by it
        self.prepared = Preparation(described)
        self.network = network
        self.logits = described.logits
        self.embedding = described.embedding

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, K)` and embedding `(B, D)`, float32."""
        outputs = self.network(self.prepared(clips))
        return outputs[self.logits].float(), outputs[self.embedding].float()
