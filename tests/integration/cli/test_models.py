"""`vidtr models` and its commands."""

import re

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.cli.model_commands import tokens_per_layer
from service.model.presets import PRESETS


def run(*arguments: str) -> Result:
    # Wide enough that no cell is folded.
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["models", *arguments])


@pytest.fixture(scope="module")
def shown() -> str:
    result = run("show", "cvidtr_m_16x4")
    assert result.exit_code == 0, result.output
    return result.output


def cells(output: str, title: str) -> list[str]:
    """The cells right of a row's title."""
    row = next(line for line in output.splitlines() if re.search(rf"│ {re.escape(title)} +│", line))
    return [cell.strip() for cell in row.split("│")[2:-1]]


def test_models_alone_lists_every_preset() -> None:
    output = run().output
    assert all(re.search(rf"│ {name} +│", output) for name in PRESETS)


def test_the_list_command_prints_what_models_alone_prints() -> None:
    assert run("list").output == run().output


def test_the_list_gives_form_clip_step_parameters_and_classes() -> None:
    row = cells(run("list").output, "vidtr_l_32x2")
    assert row == ["vidtr", "32 × 224 × 224", "2", "91,122,832", "400"]


def test_show_prints_the_parameters(shown: str) -> None:
    assert cells(shown, "parameters") == ["88,364,176"]


def test_show_prints_the_reported_figure_beside_the_measured_ones(shown: str) -> None:
    assert cells(shown, "GFLOPs reported by the authors") == ["59"]
    assert cells(shown, "GFLOPs measured, every token computed") == ["154.4"]


def test_show_prints_no_reported_figure_where_the_authors_give_none() -> None:
    assert cells(run("show", "vanilla_8x8").output, "GFLOPs reported by the authors") == ["-"]


def test_show_prints_the_memory_of_a_training_step_with_and_without_maps(shown: str) -> None:
    materialized, fused = map(float, cells(shown, "activations, dropout off"))
    assert 0.54 < materialized < 0.66
    assert 0 < fused < materialized


def test_the_cost_of_a_small_network_is_not_rounded_to_nothing() -> None:
    output = run("show", "untrained_tiny").output
    assert float(cells(output, "GFLOPs measured, every token computed")[0]) > 0
    assert all(float(cell) > 0 for cell in cells(output, "activations, dropout off"))


def test_show_refuses_an_unknown_name_with_those_there_are() -> None:
    result = run("show", "huge")
    assert result.exit_code == 2
    assert "no network 'huge'" in result.output
    assert "vidtr_s_8x8" in result.output


def test_layers_of_equal_tokens_share_a_line() -> None:
    assert tokens_per_layer([9, 7, 7, 5]) == "0: 9\n1-2: 7\n3: 5"
