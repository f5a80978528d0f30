"""An exported network that returns where its class token looked, beside the one that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from docs.figure_data import score, shipped_model, shipped_network
from service.contracts import ClipFormat, ModelSpec, Precision
from service.inference.registry import scan_repository
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.inference.torchscript_archive import load_archive
from service.model.factory import has_spatial_map
from service.model.model_export import export_model, served_module
from service.model.preprocess import rgb_to_yuv420
from service.model.presets import build_preset, export_preset
from service.model_config import ModelConfigError
from tests.integration.model.test_model_export import card
from tests.unit.model.networks import VARIANTS, random_uint8, sharp, tiny_config

PRESET = "untrained_tiny"
WITH_MAP = sorted(name for name, config in VARIANTS.items() if has_spatial_map(config))


@pytest.mark.parametrize("variant", WITH_MAP)
def test_the_file_gives_the_map_and_all_else_as_without_it(variant: str, tmp_path: Path) -> None:
    network = sharp(VARIANTS[variant])
    config, clips = network.config, random_uint8(VARIANTS[variant], 3)
    for name, spatial in (("plain", False), ("spatial", True)):
        export_model(network, tmp_path, name=name, version=1, card=card(spatial=spatial))
    with torch.inference_mode():
        plain, looked = (load_archive(tmp_path / name / "1" / "model.pt")(clips) for name in ("plain", "spatial"))
    for ours, theirs in zip(looked[:4], plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)
    rows, columns = config.height // config.patch, config.width // config.patch
    assert (looked[4].dtype, looked[4].shape) == (torch.float32, (3, config.frames, rows, columns))
    assert (looked[4] >= 0).all()
    assert (looked[4].sum((1, 2, 3)) <= 1 + 1e-6).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("clip_format", ["rgb", "yuv420"])
@pytest.mark.parametrize("embedding", [False, True])
def test_it_is_given_in_each_precision_and_format(
    precision: Precision, clip_format: ClipFormat, *, embedding: bool
) -> None:
    network = sharp(VARIANTS["frame"])
    clips = random_uint8(network.config, 2)
    given = rgb_to_yuv420(clips) if clip_format == "yuv420" else clips
    with torch.inference_mode():
        plain = served_module(network, precision, clip_format, embedding=embedding)(given)
        looked = served_module(network, precision, clip_format, embedding=embedding, spatial=True)(given)
    # An embedding comes after what says where the model looked.
    for ours, theirs in zip((*looked[:4], *looked[5:]), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2 if precision == "bf16" else 5e-6, rtol=0)
    assert looked[4].dtype == torch.float32
    assert 0 < looked[4].sum() <= 2 + 1e-5


def test_a_place_of_the_grid_is_a_patch_of_the_picture() -> None:
    # Of one layer with one head, a patch changes the score of its own place: all others stay in proportion.
    network = sharp(tiny_config(depth=1, heads=1))
    patch, clips = network.config.patch, random_uint8(network.config, 1)
    module = served_module(network, spatial=True)
    for row, column in ((0, 0), (1, 0), (1, 2)):
        lit = clips.clone()
        lit[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 255
        with torch.inference_mode():
            changed = (module(lit)[4] / module(clips)[4]).mean((0, 1))  # (rows, columns), over all frames
        off = (changed - changed.median()).abs() > 1e-3
        assert off.nonzero().tolist() == [[row, column]]


def random_clips(spec: ModelSpec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *spec.clip_shape), dtype=np.uint8)


async def test_the_engine_serves_it_and_its_configuration_says_so(tmp_path: Path) -> None:
    export_preset(PRESET, tmp_path, spatial=True)
    [file] = scan_repository(tmp_path)
    config = build_preset(PRESET).config
    grid = config.height // config.patch, config.width // config.patch
    assert (file.spec.spatial_grid, list(file.spec.outputs)[-1]) == (grid, "spatial_attention")
    assert file.spec.spatial_cells == config.frames * grid[0] * grid[1]
    backend = TorchScriptBackend(TorchScriptConfig(tmp_path))
    await backend.start()
    try:
        scores = await backend.infer(PRESET, "1", random_clips(file.spec))
    finally:
        await backend.close()
    assert scores.spatial_attention.shape == (2, config.frames, *grid)
    gone = scores.layer_retention[:, -2] == 0
    assert gone.any()
    np.testing.assert_array_equal(scores.spatial_attention.sum((2, 3)) == 0, gone)


def test_versions_with_and_without_it_need_names_of_their_own(tmp_path: Path) -> None:
    network = sharp(VARIANTS["frame"])
    export_model(network, tmp_path, name="plain", version=1, card=card())
    assert "spatial" not in (tmp_path / "plain" / "config.pbtxt").read_text()
    with pytest.raises(ValueError, match="needs another configuration"):
        export_model(network, tmp_path, name="plain", version=2, card=card(spatial=True))


def test_a_network_without_a_class_token_for_all_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="form vidtr_no_tokens classifies a mean of tokens"):
        export_model(sharp(VARIANTS["no tokens"]), tmp_path, name="mean", version=1, card=card(spatial=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dims", ["[ 8, 64 ]", "[ 8, 0, 8 ]"])
def test_a_grid_that_is_none_is_refused_at_loading(dims: str, tmp_path: Path) -> None:
    config = export_preset(PRESET, tmp_path, spatial=True) / "config.pbtxt"
    lines = config.read_text().splitlines()
    [number] = [number for number, line in enumerate(lines) if "spatial_attention" in line]
    lines[number] = f'output {{ name: "spatial_attention" data_type: TYPE_FP32 dims: {dims} }}'
    config.write_text("\n".join(lines))
    with pytest.raises(
        ModelConfigError, match=r"output 'spatial_attention' dims .* expected \[frames, rows, columns\]"
    ):
        scan_repository(tmp_path)


def test_the_bundled_model_computes_what_its_network_does_without_it() -> None:
    network = shipped_network()
    shape = (4, network.frames, network.height, network.width, 3)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        *outputs, where = load_archive(shipped_model().path)(clips)
    for ours, theirs in zip(outputs, score(network, clips), strict=True):
        # A loaded file and a network in memory may differ in the last digit: products depend on where weights lie.
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)
    assert where.shape == (4, network.frames, 6, 6)
