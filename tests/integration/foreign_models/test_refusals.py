"""A network that is not what was said of it is refused, and the message names both sides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.foreign_models.description import ForeignModelError
from service.foreign_models.foreign_import import ForeignImport, Source, import_foreign
from tests.fixtures.extras import needs
from tests.fixtures.foreign_models import LABELS, SmallCnn, export_onnx, quiet, save_scripted

ONNX = needs("onnxruntime", "the extra `onnx` is not installed")
SAID: dict[str, Any] = {"labels": list(LABELS), "frames": 4, "size": 16, "layout": "NCTHW"}
SHAPE = (2, 3, 4, 16, 16)


def refused(source: Source, path: Path, **changes: Any) -> str:
    """The message, on one line; nothing is written."""
    repository = path.parent / "repository"
    with pytest.raises(ForeignModelError) as refusal, quiet():
        import_foreign(ForeignImport(source, path, "it", values=SAID | changes), repository)
    assert not repository.exists()
    return re.sub(r"\s+", " ", str(refusal.value))


class OneClip(nn.Module):
    """As a trace leaves it that has kept the size of its batch."""

    def forward(self, video: Tensor) -> Tensor:
        return video.reshape(1, -1)[:, :5]


class Together(nn.Module):
    """Clips that share a pass change each other."""

    def forward(self, video: Tensor) -> Tensor:
        scores = video.mean(dim=[2, 3, 4])
        return torch.cat([scores, scores[:, :2]], 1) - scores.mean()


class TwoInputs(nn.Module):
    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        return (slow + fast).mean(dim=[2, 3, 4])


class Infinite(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return video.new_ones([video.size(0), 5]) / 0.0


class Draws(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return torch.rand_like(video).mean(dim=[2, 3])[:, 0, :].repeat(1, 2)[:, :5]


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    return save_scripted(SmallCnn(), tmp_path / "cnn.pt")


def test_another_layout_is_named_beside_the_one_that_was_said(scripted: Path) -> None:
    message = refused("torchscript", scripted, layout="NTHWC")
    assert "fails on float32 [1, 4, 16, 16, 3], which is NTHWC, as was said" in message
    assert "it takes float32 [1, 3, 4, 16, 16], which is NCTHW" in message


def test_other_numbers_are_named_beside_those_that_were_said(scripted: Path) -> None:
    message = refused("torchscript", scripted, dtype="uint8")
    assert "fails on uint8 [1, 3, 4, 16, 16]" in message
    assert "it takes float32 [1, 3, 4, 16, 16]" in message


def test_another_number_of_labels_is_named_beside_that_of_the_logits(scripted: Path) -> None:
    assert refused("torchscript", scripted, labels=["one", "two"]) == (
        "the network returns 5 logits for a clip, and 2 labels were given"
    )


def test_an_output_that_is_not_there_is_refused(scripted: Path) -> None:
    assert "returns a tuple, from which 7 cannot be taken as tensors" in refused("torchscript", scripted, logits=7)


def test_a_network_of_one_clip_is_refused_for_larger_batches(tmp_path: Path) -> None:
    path = save_scripted(OneClip(), tmp_path / "one.pt")
    assert refused("torchscript", path) == "the logits of 8 clips are of shape [1, 5], and [8, 5] is needed"
    with quiet():
        import_foreign(ForeignImport("torchscript", path, "it", values=SAID | {"max_batch_size": 1}), tmp_path / "r")


def test_a_network_whose_clips_change_each_other_is_refused(tmp_path: Path) -> None:
    message = refused("torchscript", save_scripted(Together(), tmp_path / "together.pt"))
    assert "where it shares a pass with 7 others" in message


def test_a_network_of_two_inputs_is_refused(tmp_path: Path) -> None:
    message = refused("torchscript", save_scripted(TwoInputs(), tmp_path / "two.pt"))
    assert message == "forward of the network takes slow, fast; the service has one tensor for it, the clips"


def test_a_network_that_computes_infinite_logits_is_refused(tmp_path: Path) -> None:
    message = refused("torchscript", save_scripted(Infinite(), tmp_path / "infinite.pt"))
    assert message == "the logits of a clip of noise hold NaN or infinite values"


def test_an_operator_that_does_more_than_compute_is_named(tmp_path: Path) -> None:
    path = save_scripted(Draws(), tmp_path / "draws.pt")
    message = refused("torchscript", path)
    assert "uses aten::rand_like" in message
    assert "the setting torchscript_operators allows it" in message


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a network")
    assert "the file is no TorchScript archive" in refused("torchscript", path)


@ONNX
def test_a_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a network")
    assert "is no ONNX model" in refused("onnx", path)


@ONNX
def test_another_layout_of_an_onnx_model_is_named(tmp_path: Path) -> None:
    message = refused("onnx", export_onnx(SmallCnn(), tmp_path / "cnn.onnx", SHAPE), layout="NTCHW")
    assert "takes 'video', FLOAT ['batch', 3, 4, 16, 16]" in message
    assert "float32 ['B', 4, 3, 16, 16], which is NTCHW, was said; NCTHW would fit" in message


@ONNX
def test_an_onnx_model_with_open_sizes_is_refused(tmp_path: Path) -> None:
    path = export_onnx(SmallCnn(), tmp_path / "cnn.onnx", SHAPE, {0: "batch", 2: "time", 3: "height"})
    message = refused("onnx", path)
    assert "['batch', 3, 'time', 'height', 16], with open sizes time, height" in message
    assert "clips are float32 ['B', 3, 4, 16, 16]" in message


@ONNX
def test_an_onnx_model_of_one_batch_size_is_refused(tmp_path: Path) -> None:
    message = refused("onnx", export_onnx(SmallCnn(), tmp_path / "cnn.onnx", SHAPE, {}))
    assert "always 2 clips; passes of 1 to 8 clips were said" in message


@ONNX
def test_another_number_of_labels_of_an_onnx_model_is_named(tmp_path: Path) -> None:
    path = export_onnx(SmallCnn(), tmp_path / "cnn.onnx", SHAPE)
    assert "returns 5 logits for a clip, and 2 labels were given" in refused("onnx", path, labels=["one", "two"])
    assert "returns scores, pooled; there is no output 'other'" in refused("onnx", path, logits="other")
