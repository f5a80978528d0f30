"""A command that is called in a folder which somebody else filled takes neither settings nor models from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from service.cli.engines import checked_address, chosen_settings, engine
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


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:8080", "https://video.example/prefix/", "http://[::1]:80", "http://u:p@h"]
)
def test_an_address_of_a_server_is_taken(value: str) -> None:
    assert checked_address(value) == value


@pytest.mark.parametrize(
    "value", ["", "127.0.0.1:8080", "localhost", "ftp://x", "http://", "http://h:99999", "http://h:x", "http://[::1"]
)
def test_what_is_no_address_of_a_server_is_wrong_usage(value: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"http://127\.0\.0\.1:8080"):
        checked_address(value)


def test_a_proxy_that_cannot_be_used_is_wrong_usage(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with (
        pytest.raises(typer.BadParameter, match="socksio"),
        engine("http://video.example", None, 0.0, chosen_settings("http://video.example", None, None)),
    ):
        pass
