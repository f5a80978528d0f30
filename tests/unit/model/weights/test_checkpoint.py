"""Reading checkpoint files of every container."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from service.model.weights import CheckpointError, read_checkpoint
from tests.unit.model.weights.files import VIDTR, foreign_config, network, parallel, save_as_trained


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return {
        "matrix": base,
        "transposed": base.T,
        "part": base[1:3, 2:],
        "half": base.half(),
        "rounded": base.bfloat16(),
        "double": base.double(),
        "count": torch.tensor(3),
        "empty": torch.empty(0, 3),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_a_flat_dict_is_read(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "flat.pth")
    assert_same(read_checkpoint(tmp_path / "flat.pth"), weights())


def test_weights_under_model_are_read_and_the_rest_is_left_out(tmp_path: Path) -> None:
    torch.save({"model": weights(), "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "nested.pth")
    assert_same(read_checkpoint(tmp_path / "nested.pth"), weights())


def test_one_leading_module_is_taken_off(tmp_path: Path) -> None:
    torch.save(parallel(parallel(weights())), tmp_path / "parallel.pth")
    assert_same(read_checkpoint(tmp_path / "parallel.pth"), parallel(weights()))


def test_the_same_name_with_and_without_module_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "module.a": torch.zeros(1)}, tmp_path / "both.pth")
    with pytest.raises(CheckpointError, match="'a' is there twice"):
        read_checkpoint(tmp_path / "both.pth")


def test_a_file_with_an_object_of_a_foreign_class_is_read_without_that_class(tmp_path: Path) -> None:
    with foreign_config() as config:
        torch.save({"model": weights(), "config": config}, tmp_path / "foreign.pth")
    assert_same(read_checkpoint(tmp_path / "foreign.pth"), weights())


def test_parameters_in_a_file_with_a_foreign_class_are_read(tmp_path: Path) -> None:
    matrix = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    with foreign_config() as config:
        torch.save({"matrix": matrix}, tmp_path / "plain.pth")
        torch.save({"model": {"matrix": matrix}, "config": config}, tmp_path / "foreign.pth")
    assert torch.equal(read_checkpoint(tmp_path / "foreign.pth")["matrix"], matrix)


def test_a_training_checkpoint_of_the_released_code_is_read(tmp_path: Path) -> None:
    expected = dict(network(VIDTR, seed=3).state_dict())
    assert_same(read_checkpoint(save_as_trained(expected, tmp_path / "trained.pth")), expected)


def test_a_file_of_an_old_pytorch_is_read(tmp_path: Path) -> None:
    torch.save({"model": weights()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(read_checkpoint(tmp_path / "old.pth"), weights())


def test_safetensors_is_read_whatever_its_name(tmp_path: Path) -> None:
    expected = {name: tensor.contiguous() for name, tensor in weights().items()}
    save_file(expected, tmp_path / "weights.pth")
    found = read_checkpoint(tmp_path / "weights.pth")
    assert_same({name: found[name] for name in expected}, expected)


def test_a_numpy_archive_is_read(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"embedding/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "cls": np.ones(2)}
    np.savez(tmp_path / "vit.npz", **arrays)
    assert_same(read_checkpoint(tmp_path / "vit.npz"), {k: torch.from_numpy(v) for k, v in arrays.items()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "the file holds a list instead of named tensors"),
        ({"model": [1]}, "its entry 'model' holds a list instead of named tensors"),
        ({}, "the file holds no tensors"),
        ({"epoch": 3, "matrix": torch.ones(1)}, "'epoch' is no tensor"),
    ],
)
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x02garbage", b"\x08\0\0\0\0\0\0\0{broken"])
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match="file"):
        read_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    match path.suffix:
        case ".pth":
            torch.save(weights(), path)
        case ".safetensors":
            save_file({"matrix": torch.ones(64)}, path)
        case _:
            np.savez(path, matrix=np.ones(64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "missing.pth")
