"""What is exported is what was built, and it keeps the rules of Triton's PyTorch backend."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.model.card import ModelCard
from service.model.factory import Network
from service.model.model_export import ExportModule, export_model
from service.model.preprocess import Normalize, rgb_to_yuv420, yuv420_to_rgb
from service.model_config import parameters_of, read_config
from tests.unit.model.networks import VARIANTS, random_uint8, sharp, tiny_network

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")

ROOT = Path(__file__).parents[3]


def card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "labels": ("a", "b", "c", "d"),
        "trained": False,
        "description": "for a test",
        "frame_step": 2,
        "reference_fps": 25.0,
        "resize_short_side": 16,
    }
    return ModelCard(**{**values, **changes})


def export(network: Network, directory: Path, *, version: int = 1, replace: bool = False, **changes: Any) -> Path:
    return export_model(network, directory, name="tiny", version=version, card=card(**changes), replace=replace)


def load(folder: Path, version: int = 1) -> Any:
    return torch.jit.load(folder / str(version) / "model.pt")


def hashes(folder: Path) -> dict[str, str]:
    return dict(json.loads(parameters_of(read_config(folder / "config.pbtxt"))["weights_sha256"]))


@dataclass(frozen=True)
class Exported:
    network: Network
    loaded: Any


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network = sharp(VARIANTS[request.param])
    return Exported(network, load(export(network, tmp_path_factory.mktemp("variant"))))


def test_the_exported_file_agrees_with_the_network_at_every_batch_size(exported: Exported) -> None:
    served = ExportModule(exported.network).eval()
    with torch.inference_mode():
        # Twice each, since TorchScript may run another program once it has seen the shapes.
        for batch in (1, 1, 2, 2, 5, 5):
            clips = random_uint8(exported.network.config, batch, seed=batch)
            for ours, theirs in zip(served(clips), exported.loaded(clips), strict=True):
                torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_all_outputs_are_float32_with_the_batch_first(exported: Exported) -> None:
    frames = exported.network.config.frames
    outputs = exported.loaded(random_uint8(exported.network.config, 2))
    assert [(t.dtype, tuple(t.shape)) for t in outputs] == [
        (torch.float32, (2, 4)),
        (torch.float32, (2, frames)),
        (torch.float32, (2, 3, frames)),
        (torch.float32, (2, 3, frames)),
    ]


def nodes(block: Any) -> Iterator[Any]:
    """All nodes of a graph or block, those of the blocks inside them as well."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


def fixed_devices(module: Any) -> list[str]:
    """Where the graph, submodules included, names a device of its own instead of that of its tensors."""
    return [
        str(node)
        for node in nodes(module.inlined_graph)
        if node.kind() in ("aten::cpu", "aten::cuda")
        or (node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType")
    ]


def test_no_device_is_fixed_in_the_exported_graph(exported: Exported) -> None:
    assert fixed_devices(exported.loaded) == []


class NamedDevice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(1, device="cpu")


class MovedInABranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cpu() if x.size(0) > 1 else x


class DeviceOfItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(1, device=x.device)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize(("module", "fixed"), [(NamedDevice(), 1), (MovedInABranch(), 1), (DeviceOfItsInput(), 0)])
def test_a_fixed_device_is_found_wherever_it_is(module: nn.Module, fixed: int) -> None:
    assert len(fixed_devices(torch.jit.script(nn.Sequential(module)))) == fixed


@pytest.mark.filterwarnings("ignore:.torch.jit.trace(_method)?. is deprecated")
def test_tracing_would_fix_the_device() -> None:
    assert fixed_devices(torch.jit.trace(DeviceOfItsInput(), torch.ones(1)))


def test_forward_takes_one_argument_named_clips(tmp_path: Path) -> None:
    arguments = load(export(tiny_network(), tmp_path)).forward.schema.arguments
    assert [argument.name for argument in arguments] == ["self", "clips"]


def test_the_exported_file_refuses_clips_that_are_not_uint8(tmp_path: Path) -> None:
    network = tiny_network()
    with pytest.raises(torch.jit.Error, match="clips must be uint8"):
        load(export(network, tmp_path))(random_uint8(network.config, 1).float())


def test_clips_are_standardized_by_the_imagenet_colors() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    scaled = (clips / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    ours: Tensor = Normalize()(torch.from_numpy(clips))
    torch.testing.assert_close(ours.double(), torch.from_numpy(scaled).permute(0, 4, 1, 2, 3), atol=1e-5, rtol=0)


def test_exporting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = tiny_network(dropout=0.1).train().double()
    before = {name: p.clone() for name, p in network.state_dict().items()}
    export(network, tmp_path)
    assert network.training
    assert all(torch.equal(p, before[name]) for name, p in network.state_dict().items())


def test_dropout_is_off_in_the_exported_file(tmp_path: Path) -> None:
    network = tiny_network(dropout=0.5, head_dropout=0.5).train()
    loaded, clips = load(export(network, tmp_path)), random_uint8(network.config, 1)
    assert torch.equal(loaded(clips)[0], loaded(clips)[0])


def test_the_configuration_holds_the_hash_of_the_file(tmp_path: Path) -> None:
    folder = export(tiny_network(), tmp_path)
    assert hashes(folder) == {"1": hashlib.sha256((folder / "1" / "model.pt").read_bytes()).hexdigest()}


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = export(tiny_network(), tmp_path / "a"), export(tiny_network(), tmp_path / "b")
    assert hashes(first) == hashes(second)


def test_exporting_in_processes_with_other_hash_seeds_gives_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.model.presets import export_preset; "
        "from tests.unit.model.networks import VARIANTS, sharp; "
        "from tests.integration.model.test_model_export import export; "
        "root = Path(sys.argv[1]); export_preset('untrained_tiny', root); "
        "[export(sharp(VARIANTS[name]), root / name) for name in ('released', 'conv', 'spatial first')]"
    )
    files: list[dict[str, bytes]] = []
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        root = tmp_path / seed
        files.append({str(path.relative_to(root)): path.read_bytes() for path in root.rglob("model.pt")})
    assert len(files[0]) == 4
    assert files[0] == files[1]


def test_the_exported_file_holds_no_path_of_the_exporting_machine(tmp_path: Path) -> None:
    with zipfile.ZipFile(export(tiny_network(), tmp_path) / "1" / "model.pt") as archive:
        assert not any(str(ROOT).encode() in archive.read(record) for record in archive.namelist())


def test_a_new_version_keeps_the_hashes_of_the_older_ones(tmp_path: Path) -> None:
    old = hashes(export(tiny_network(seed=1), tmp_path, version=1))
    new = hashes(export(tiny_network(seed=2), tmp_path, version=2))
    assert new["1"] == old["1"]
    assert new["2"] != old["1"]


def test_exporting_a_version_again_replaces_its_hash(tmp_path: Path) -> None:
    export(tiny_network(seed=1), tmp_path)
    folder = export(tiny_network(seed=2), tmp_path)
    assert hashes(folder) == {"1": hashlib.sha256((folder / "1" / "model.pt").read_bytes()).hexdigest()}


def test_a_single_version_may_be_exported_again_with_another_configuration(tmp_path: Path) -> None:
    export(tiny_network(), tmp_path, frame_step=2)
    folder = export(tiny_network(), tmp_path, frame_step=3)
    assert parameters_of(read_config(folder / "config.pbtxt"))["frame_step"] == "3"


def test_a_new_version_may_describe_itself_differently(tmp_path: Path) -> None:
    export(tiny_network(), tmp_path, description="first")
    assert set(hashes(export(tiny_network(), tmp_path, version=2, description="second"))) == {"1", "2"}


@pytest.mark.parametrize("changes", [{"labels": ("a", "b", "d", "c")}, {"trained": True}, {"frame_step": 3}])
def test_a_new_version_must_not_change_how_the_older_ones_are_served(changes: dict[str, Any], tmp_path: Path) -> None:
    export(tiny_network(), tmp_path)
    with pytest.raises(ValueError, match="version 2 of tiny needs another configuration than versions 1"):
        export(tiny_network(), tmp_path, version=2, **changes)


def test_a_version_that_replaces_the_others_may_need_another_configuration(tmp_path: Path) -> None:
    export(tiny_network(seed=1), tmp_path, version=1)
    export(tiny_network(seed=1), tmp_path, version=2)
    folder = export(tiny_network(seed=2), tmp_path, version=3, replace=True, frame_step=3)
    assert set(hashes(folder)) == {"3"}
    assert sorted(path.name for path in folder.iterdir()) == ["3", "config.pbtxt"]


def test_a_configuration_of_another_writer_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.pbtxt").write_text('name: "tiny"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="was not written by this exporter"):
        export(tiny_network(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "the network has 4 classes, but there are 2 labels"),
        ({"resize_short_side": 15}, r"resize_short_side \(15\) is too small for crops of 16x24"),
        ({"version": 0}, "version must be at least 1"),
    ],
)
def test_a_card_that_does_not_fit_the_network_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export(tiny_network(), tmp_path, **changes)


def test_a_name_that_leaves_the_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model name"):
        export_model(tiny_network(), tmp_path, name="../tiny", version=1, card=card())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_clips_in_420_score_as_the_same_clips_converted_before(tmp_path: Path, precision: str) -> None:
    network = sharp(VARIANTS["released"])
    rgb = load(export(network, tmp_path / "rgb", precision=precision))
    yuv420 = load(export(network, tmp_path / "yuv420", precision=precision, clip_format="yuv420"))
    clips = rgb_to_yuv420(random_uint8(VARIANTS["released"], 3))
    with torch.inference_mode():
        for ours, theirs in zip(yuv420(clips), rgb(yuv420_to_rgb(clips)), strict=True):
            assert torch.equal(ours, theirs)


def test_a_file_for_420_is_as_the_network_with_normalized_colors(tmp_path: Path) -> None:
    network = sharp(VARIANTS["frame"])
    served = load(export(network, tmp_path, clip_format="yuv420"))
    clips = rgb_to_yuv420(random_uint8(VARIANTS["frame"], 3))
    with torch.inference_mode():
        torch.testing.assert_close(served(clips)[0], network(Normalize()(clips)).logits, atol=1e-4, rtol=0)


def test_a_network_of_odd_size_cannot_take_420(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clip_format yuv420 needs even sizes, not resize_short_side 17"):
        export(tiny_network(), tmp_path, resize_short_side=17, clip_format="yuv420")


def test_versions_of_one_model_take_clips_in_one_format(tmp_path: Path) -> None:
    export(tiny_network(), tmp_path)
    with pytest.raises(ValueError, match="export it under a new name"):
        export(tiny_network(), tmp_path, version=2, clip_format="yuv420")


def test_a_file_for_420_is_always_the_same(tmp_path: Path) -> None:
    files = [export(tiny_network(), tmp_path / name, clip_format="yuv420") / "1" / "model.pt" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
