"""A command that is called in a folder which somebody else filled takes neither settings nor models from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.engines import chosen_settings
from tests.fixtures.servers import SHIPPED_REPOSITORY


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model repository and a `.env`."""
    monkeypatch.delenv("VIDTR_MODEL_REPOSITORY", raising=False)
    (tmp_path / "model_repository").mkdir()
    (tmp_path / ".env").write_text("VIDTR_MODEL_REPOSITORY=elsewhere\nVIDTR_TORCHSCRIPT_OPERATORS=aten::save\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_neither_settings_nor_models_are_taken_from_the_current_folder(foreign: Path) -> None:
    settings = chosen_settings(None, None, None)
    assert settings.model_repository == SHIPPED_REPOSITORY
    assert settings.torchscript_operators == ()


def test_a_repository_that_is_named_is_taken(foreign: Path) -> None:
    assert chosen_settings(None, Path("model_repository"), None).model_repository == Path("model_repository")


def test_a_file_of_settings_that_is_named_is_read(foreign: Path) -> None:
    assert chosen_settings(None, None, foreign / ".env").torchscript_operators == ("aten::save",)


def test_the_environment_names_a_repository_too(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_MODEL_REPOSITORY", "mine")
    assert chosen_settings(None, None, None).model_repository == Path("mine")
