"""Presets: the networks that come with the project."""

import itertools
from pathlib import Path

import pytest
import torch

from service.model.model_export import ExportModule
from service.model.presets import PRESETS, build_preset, export_preset
from tests.unit.model.networks import random_uint8

RELEASED = sorted(set(PRESETS) - {"untrained_tiny"})


def test_a_preset_is_the_same_network_every_time() -> None:
    first, second = build_preset("untrained_tiny"), build_preset("untrained_tiny")
    assert all(torch.equal(p, second.state_dict()[name]) for name, p in first.state_dict().items())


def test_building_a_preset_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_preset("untrained_tiny")
    assert torch.equal(torch.rand(1), expected)


def test_an_untrained_preset_still_tells_clips_apart() -> None:
    network = build_preset("untrained_tiny")
    with torch.inference_mode():
        logits = ExportModule(network).eval()(random_uint8(network.config, 1))[0]
        other = ExportModule(network).eval()(torch.zeros_like(random_uint8(network.config, 1)))[0]
    assert (logits - other).abs().max() > 0.1


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no preset 'huge'; there are cvidtr_m_16x4, .*, untrained_tiny, "):
        build_preset("huge")


def test_the_exported_fixture_model_is_small(tmp_path: Path) -> None:
    assert (export_preset("untrained_tiny", tmp_path) / "1" / "model.pt").stat().st_size < 5_000_000


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("untrained_tiny", "cvidtr_paper"),
        ("vidtr_s_8x8", "vidtr"),
        ("vidtr_m_16x4", "vidtr"),
        ("vidtr_l_32x2", "vidtr"),
        ("cvidtr_s_8x8", "cvidtr_official"),
        ("cvidtr_m_16x4", "cvidtr_official"),
        ("vanilla_8x8", "vanilla"),
        ("vanilla_16x4", "vanilla"),
    ],
)
def test_a_preset_has_its_form(name: str, form: str) -> None:
    assert PRESETS[name].config.form == form


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_preset_has_the_frames_and_the_step_of_its_name(name: str) -> None:
    preset = PRESETS[name]
    assert name.endswith(f"_{preset.config.frames}x{preset.card.frame_step}")


@pytest.mark.parametrize("name", RELEASED)
def test_a_clip_of_a_released_preset_spans_64_frames(name: str) -> None:
    assert PRESETS[name].config.frames * PRESETS[name].card.frame_step == 64


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_has_a_label_for_each_class(name: str) -> None:
    assert len(PRESETS[name].card.labels) == PRESETS[name].config.classes


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_preset_passes_for_trained(name: str) -> None:
    assert not PRESETS[name].card.trained


def test_positions_enter_every_layer_of_16_frames_except_in_cvidtr() -> None:
    every = {name for name in PRESETS if PRESETS[name].config.positions == "every_layer"}
    assert every == {"vidtr_m_16x4", "vanilla_16x4"}


@pytest.mark.parametrize(
    ("name", "drops"), [("cvidtr_s_8x8", {1: 2, 3: 2, 5: 2}), ("cvidtr_m_16x4", {1: 8, 2: 4, 4: 2})]
)
def test_cvidtr_drops_the_frames_of_the_released_schedule(name: str, drops: dict[int, int]) -> None:
    config = PRESETS[name].config
    kept = [config.frames, *(keep for _, keep in config.pooling)]
    layers = [layer for layer, _ in config.pooling]
    assert dict(zip(layers, (a - b for a, b in itertools.pairwise(kept)), strict=True)) == drops


def test_the_reported_cost_is_that_of_the_five_models_whose_authors_report_one() -> None:
    reported = {name: preset.reported_gflops for name, preset in PRESETS.items() if preset.reported_gflops}
    assert reported == {
        "vidtr_s_8x8": 89,
        "vidtr_m_16x4": 179,
        "vidtr_l_32x2": 351,
        "cvidtr_s_8x8": 39,
        "cvidtr_m_16x4": 59,
    }


def test_a_released_preset_scores_a_clip_of_its_size() -> None:
    network = build_preset("cvidtr_s_8x8")
    with torch.inference_mode():
        logits = ExportModule(network).eval()(random_uint8(network.config, 1))[0]
    assert logits.shape == (1, 400)
    assert logits.isfinite().all()
