"""What video costs is computed of what was measured, in the documentation too."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cost

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cost.RECORDED.read_text())["figures"]["cells"]
    return found


def test_an_hour_of_a_core_for_each_minute_costs_a_thousand_hours() -> None:
    assert cost.cost(3600.0, 0.05) == pytest.approx(50.0)
    assert cost.cost(0.0, 0.05) == 0.0


def test_the_price_is_that_which_is_asked_for(cells: list[dict[str, Any]]) -> None:
    assert "at $2 for a vCPU-hour" in cost.table(cells, 2.0)


def test_the_table_of_the_documentation_is_made_of_what_was_recorded(cells: list[dict[str, Any]]) -> None:
    assert cost.table(cells, cost.PRICE) in (ROOT / "docs" / "benchmarks.md").read_text()


def test_the_sentence_of_the_readme_is_made_of_what_was_recorded(cells: list[dict[str, Any]]) -> None:
    written = " ".join((ROOT / "README.md").read_text().split())
    assert cost.sentence(cells, cost.PRICE) in written


def test_the_lists_of_others_stand_beside_it(cells: list[dict[str, Any]]) -> None:
    table = cost.table(cells, cost.PRICE)
    assert all(who in table for who in cost.LISTED)
    assert "$29 to $43" in table
