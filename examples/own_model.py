"""A network of your own in a model repository. Usage: python own_model.py REPOSITORY; needs torch.

    VIDTR_MODEL_REPOSITORY=REPOSITORY VIDTR_DEFAULT_MODEL=brightness vidtr up

serves it. docs/model-repository.md explains every line of the configuration.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

NAME = "brightness"
LABELS = ("dark", "bright")
FRAMES, SIDE, LAYERS = 8, 32, 1


class Brightness(nn.Module):
    """uint8 clips `[B, T, H, W, 3]` to the four outputs; scaling of the pixels belongs to the network.

    Returns logits `[B, K]`, temporal attention `[B, T]`, attention of layers and retention `[B, L, T]`, all float32.
    """

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        light = clips.to(torch.float32).mean(dim=[2, 3, 4]) / 255.0
        bright = light.mean(dim=1)
        logits = torch.stack([0.5 - bright, bright - 0.5], dim=1) * 10.0
        attention = torch.softmax(light, dim=1)
        layers = attention.unsqueeze(1)
        return logits, attention, layers, torch.ones_like(layers)


def configuration(digest: str) -> str:
    """`config.pbtxt`: the tensors for Triton, the preprocessing for whoever makes clips."""
    parameters = {
        "schema_version": "1",
        "description": "Says whether a video is dark or bright",
        "form": "vidtr",
        "trained": "true",
        "labels": json.dumps(LABELS),
        "activation": "softmax",
        "frames": str(FRAMES),
        "frame_step": "4",
        "reference_fps": "30",
        "sampling": "time",
        "image_size": str(SIDE),
        "resize_short_side": str(SIDE),
        "resize": "swscale_bilinear",
        "weights_sha256": json.dumps({"1": digest}),
    }
    outputs = {
        "logits": [len(LABELS)],
        "temporal_attention": [FRAMES],
        "layer_attention": [LAYERS, FRAMES],
        "layer_retention": [LAYERS, FRAMES],
    }
    lines = [
        f'name: "{NAME}"',
        'backend: "pytorch"',
        "max_batch_size: 8",
        f'input {{ name: "clips" data_type: TYPE_UINT8 dims: {[FRAMES, SIDE, SIDE, 3]} }}',
        *(f'output {{ name: "{name}" data_type: TYPE_FP32 dims: {dims} }}' for name, dims in outputs.items()),
        "instance_group { kind: KIND_AUTO count: 1 }",
        "dynamic_batching { }",
        *(
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def main(repository: str) -> None:
    folder = Path(repository) / NAME
    model = folder / "1" / "model.pt"
    model.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(Brightness().eval()), str(model))
    (folder / "config.pbtxt").write_text(configuration(hashlib.sha256(model.read_bytes()).hexdigest()))
    print(f"wrote {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
