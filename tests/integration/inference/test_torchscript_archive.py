# ruff: noqa: S108 - a script can name no path but a literal one
"""A TorchScript file that does more than compute is refused, and nothing of it has run by then."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.inference.torchscript_archive import UntrustedArchive, load_archive
from service.local.triton_install import install_triton
from tests.fixtures.servers import MODEL_REPOSITORY, SHIPPED_REPOSITORY
from tests.fixtures.tiny_models import TinyNetwork

LEFT = Path("/tmp/vidtr-test-left-behind")


class Reads(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        return torch.from_file("/etc/hostname", size=4, dtype=torch.uint8)


class Writes(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        torch.save(clips, "/tmp/vidtr-test-left-behind")
        return clips


class WritesInAPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Writes()

    def forward(self, clips: Tensor) -> Tensor:
        if bool(clips.sum() > 1):
            clips = self.part(clips)
        return clips


class WritesElsewhere(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        return clips

    @torch.jit.export
    def other(self, clips: Tensor) -> Tensor:
        torch.save(clips, "/tmp/vidtr-test-left-behind")
        return clips


class Prints(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        print(clips)
        return clips


class Starts(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        result: Tensor = torch.jit.wait(torch.jit.fork(torch.relu, clips))
        return result


class Random(nn.Module):
    def forward(self, clips: Tensor) -> Tensor:
        return torch.rand_like(clips)


class RunsWhenLoaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight: Tensor = nn.Parameter(torch.zeros(1))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.weight = state[0]
        self.training = state[1]
        torch.save(state[0], "/tmp/vidtr-test-left-behind")

    def forward(self, clips: Tensor) -> Tensor:
        return clips


def saved(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        (Reads, "aten::from_file"),
        (Writes, "aten::save"),
        (WritesInAPart, "aten::save"),
        (WritesElsewhere, "aten::save"),
        (Prints, "prim::Print"),
        (Starts, "prim::fork"),
        (Random, "aten::rand_like"),
    ],
)
def test_a_file_with_an_operator_that_does_not_compute_is_refused_by_name(
    tmp_path: Path, module: type[nn.Module], operator: str
) -> None:
    with pytest.raises(UntrustedArchive, match=operator):
        load_archive(saved(module(), tmp_path / "model.pt"))


def test_a_file_that_runs_while_it_is_loaded_is_refused_before_it_does(tmp_path: Path) -> None:
    path = saved(RunsWhenLoaded(), tmp_path / "model.pt")
    LEFT.unlink(missing_ok=True)
    with pytest.raises(UntrustedArchive, match="__setstate__"):
        load_archive(path)
    assert not LEFT.exists()


def test_a_file_that_names_a_compiled_class_is_refused(tmp_path: Path) -> None:
    path = saved(TinyNetwork(), tmp_path / "model.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "other.pt", "w") as target:
        for record in source.infolist():
            content = source.read(record)
            if record.filename.endswith("/data.pkl"):
                content = content.replace(b"__torch__.", b"__torch__.torch.classes.x.")
            target.writestr(record.filename, content)
    with pytest.raises(UntrustedArchive, match=r"torch\.classes"):
        load_archive(tmp_path / "other.pt")


def test_an_operator_that_is_allowed_is_loaded(tmp_path: Path) -> None:
    path = saved(Random(), tmp_path / "model.pt")
    assert load_archive(path, ["aten::rand_like"])(torch.zeros(3)).shape == (3,)


def test_what_is_no_archive_of_today_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PTMF" * 100)
    with pytest.raises(UntrustedArchive, match="no TorchScript archive"):
        load_archive(path)


@pytest.mark.parametrize(
    "path", [*SHIPPED_REPOSITORY.glob("*/*/model.pt"), *MODEL_REPOSITORY.glob("*/*/model.pt")], ids=str
)
def test_the_models_of_this_project_are_loaded(path: Path) -> None:
    assert not load_archive(path).training


def test_the_backend_of_the_private_triton_has_the_same_loader(triton_directory: Path) -> None:
    install_triton(triton_directory)
    import service.inference.torchscript_archive as loader

    assert (triton_directory / "backends" / "pytorch" / "torchscript_archive.py").read_bytes() == Path(
        loader.__file__
    ).read_bytes()
