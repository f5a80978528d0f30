"""Run files: read strictly, changed from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.training.config import Recipe, read_config
from service.training.optimize import rate_at

FILE = """
[network]
depth = 2
[data]
kind = "folder"
videos = "v"
[recipe]
steps = 100
"""
SHIPPED = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    return path


def test_relative_paths_start_at_the_file(file: Path) -> None:
    assert read_config(file).data.videos == (file.parent / "v").resolve()  # type: ignore[union-attr]


def test_a_change_replaces_one_field(file: Path) -> None:
    changed = read_config(file, ["recipe.steps=7", "data.fold=3"])
    assert (changed.recipe.steps, changed.data.fold, changed.recipe.batch) == (7, 3, 32)  # type: ignore[union-attr]


def test_a_misspelt_field_is_named(file: Path) -> None:
    with pytest.raises(ValidationError, match=r"recipe\.stepz"):
        read_config(file, ["recipe.stepz=7"])


def test_a_fold_that_does_not_exist_is_refused(file: Path) -> None:
    with pytest.raises(ValidationError, match=r"fold must lie in 0 \.\. 4, not 5"):
        read_config(file, ["data.fold=5"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_describes_a_network_that_can_be_built(path: Path) -> None:
    assert read_config(path).network_config(12).depth >= 2


def test_the_modern_rate_warms_up_holds_and_falls() -> None:
    recipe = Recipe(steps=1000, warmup=100, hold=0.5, learning_rate=1.0)
    rates = [rate_at(step, recipe) for step in (0, 99, 400, 999)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[1:3] == pytest.approx([1.0, 1.0])
    assert rates[3] < 0.02


def test_the_paper_rate_falls_to_a_tenth_at_each_milestone() -> None:
    recipe = Recipe(name="paper", steps=100, learning_rate=1.0, milestones=(0.5, 0.8))
    assert [rate_at(step, recipe) for step in (0, 50, 80)] == pytest.approx([1.0, 0.1, 0.01])
