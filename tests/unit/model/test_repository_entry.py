"""What an entry of a model repository keeps when its model is exported or measured again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.inference.registry import scan_repository
from service.model.presets import PRESETS
from service.model.repository_entry import keep_faithfulness, write_version
from testing import factories

PRESET = PRESETS["untrained_tiny"]
MEASURED = factories.faithfulness()
BETTER = factories.faithfulness(deletion_gap=0.7)


def exported(repository: Path, version: int, *, replace_others: bool = False) -> str:
    """Write a version with weights of its own; their SHA-256."""
    card = replace(PRESET.card, description=f"version {version}")
    weights = b"weights %d" % version
    write_version(repository, "tiny", version, PRESET.config, card, weights, replace=replace_others)
    [sha256] = [file.spec.weights_sha256 for file in scan_repository(repository) if file.spec.version == str(version)]
    return sha256


def measured(repository: Path) -> dict[str, object]:
    return {file.spec.version: file.spec.faithfulness for file in scan_repository(repository)}


def test_what_was_measured_is_read_again_and_measured_anew(tmp_path: Path) -> None:
    sha256 = exported(tmp_path, 1)
    for found in (MEASURED, BETTER):
        keep_faithfulness(tmp_path / "tiny", sha256, found)
        assert measured(tmp_path) == {"1": found}


def test_a_new_version_keeps_the_measures_of_the_old_one_and_has_none(tmp_path: Path) -> None:
    first = exported(tmp_path, 1)
    keep_faithfulness(tmp_path / "tiny", first, MEASURED)
    exported(tmp_path, 2)
    assert measured(tmp_path) == {"1": MEASURED, "2": None}


def test_measures_of_weights_that_are_gone_go_with_them(tmp_path: Path) -> None:
    sha256 = exported(tmp_path, 1)
    keep_faithfulness(tmp_path / "tiny", sha256, MEASURED)
    exported(tmp_path, 2, replace_others=True)
    assert sha256 not in (tmp_path / "tiny" / "config.pbtxt").read_text()


def test_lines_of_an_operator_stay_as_they_are(tmp_path: Path) -> None:
    sha256 = exported(tmp_path, 1)
    path = tmp_path / "tiny" / "config.pbtxt"
    text = "# ours\n" + path.read_text()
    path.write_text(text)
    keep_faithfulness(tmp_path / "tiny", sha256, MEASURED)
    assert path.read_text().startswith(text)


def test_measures_of_other_weights_are_refused(tmp_path: Path) -> None:
    exported(tmp_path, 1)
    with pytest.raises(ValueError, match="no version of tiny has the weights"):
        keep_faithfulness(tmp_path / "tiny", "0" * 64, MEASURED)


def test_a_parameter_that_is_spread_over_lines_is_left_to_its_writer(tmp_path: Path) -> None:
    sha256 = exported(tmp_path, 1)
    path = tmp_path / "tiny" / "config.pbtxt"
    path.write_text(path.read_text() + 'parameters {\n  key: "faithfulness"\n  value { string_value: "{}" }\n}\n')
    with pytest.raises(ValueError, match="not on a line of its own"):
        keep_faithfulness(tmp_path / "tiny", sha256, MEASURED)
