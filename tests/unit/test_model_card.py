"""The page on the bundled model shows what was measured of that very model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from docs.card_tables import KEPT, PAGE, keep, tables, written
from docs.contact_sheets import EACH, FOLDER, TABLE, Sheet, chosen, page_of
from docs.figure_data import shipped_model
from service.contracts import ModelSpec, Prediction

KNOWN: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return shipped_model().spec


def test_the_measurements_are_of_the_bundled_weights(spec: ModelSpec) -> None:
    assert KNOWN["weights_sha256"] == spec.weights_sha256
    assert KNOWN["windows"]["camera_motion"]["weights_sha256"] == spec.weights_sha256
    sheets = json.loads((FOLDER / TABLE).read_text(encoding="utf-8"))
    assert sheets["weights_sha256"] == spec.weights_sha256


def test_the_tables_of_the_page_are_those_of_the_measurements(spec: ModelSpec) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, tables(spec, KNOWN)) == page


def test_figures_on_real_cameras_come_first_and_the_tracker_beside_them(spec: ModelSpec) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert (
        page.index("<!-- real: begin -->") < page.index("<!-- labels: begin -->") < page.index("<!-- paths: begin -->")
    )
    real = tables(spec, KNOWN)["real"].splitlines()
    assert real[0] == "| | `camera_motion` | classical tracker |"
    assert all(row.count(" of ") >= 2 for row in real if row.startswith("| right, of windows"))


def test_measurements_of_other_weights_are_refused(spec: ModelSpec) -> None:
    with pytest.raises(ValueError, match=f"assessment are of weights {'0' * 64}"):
        keep(spec, None, {"weights_sha256": "0" * 64}, KNOWN)
    with pytest.raises(ValueError, match=r"without --beside classical\.csv"):
        keep(spec, {"camera_motion": KNOWN["windows"]["camera_motion"]}, None, KNOWN)
    # What is known of a model that is no longer bundled says nothing of the new one.
    assert keep(spec, None, None, {**KNOWN, "weights_sha256": "0" * 64}) == {"weights_sha256": spec.weights_sha256}


def test_twelve_small_sheets_stand_on_the_page_half_of_them_wrong() -> None:
    rows = [tuple(row) for row in json.loads((FOLDER / TABLE).read_text(encoding="utf-8"))["sheets"]]
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, {"sheets": page_of(rows)}) == page
    assert [name.partition("_")[0] for name, _ in rows] == ["right"] * EACH + ["wrong"] * EACH
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.webp")}
    assert set(files) == {name for name, _ in rows}
    assert sum(files.values()) < 1_000_000


def test_a_sheet_is_right_where_the_first_label_said_is_shown() -> None:
    blank = torch.zeros(8, 4, 4, 3, dtype=torch.uint8), torch.full((8,), 0.125), -1
    said = tuple(Prediction(label=label, index=0, score=0.5, threshold=0.4, passes=True) for label in ("cut", "fade"))
    shown, other, silent = (Sheet(*blank, ("cut",), says) for says in (said, said[1:], ()))
    assert (shown.right, other.right, silent.right) == (True, False, False)
    assert shown.words == "shown: cut; said: cut 0.50 (from 0.40 on), fade 0.50 (from 0.40 on)"
    assert silent.words == "shown: cut; said: no clear motion"
    assert [each.kind for each in chosen([other, other, silent], right=False)] == ["fade", "no clear motion", "fade"]


def test_a_page_without_the_place_of_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no single place for real"):
        written("no comments", {"real": "| |"})
