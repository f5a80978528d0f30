"""Credentials of cameras are for their host alone, and neither they nor their file show in errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import SourceNotAllowed, SourceUnavailable
from service.sources.stream_logins import StreamLogins

FILE = '[door]\nhost = "Door.example.com"\nuser = "viewer"\npassword = "s3cret"\n'


def test_a_login_is_found_by_its_name_for_its_host(tmp_path: Path) -> None:
    path = tmp_path / "logins.toml"
    path.write_text(FILE)
    found = StreamLogins(path).find("door", "door.example.com.")
    assert (found.user, found.password.get_secret_value()) == ("viewer", "s3cret")
    assert "s3cret" not in repr(found)


def test_a_file_that_is_replaced_counts(tmp_path: Path) -> None:
    path = tmp_path / "logins.toml"
    path.write_text(FILE)
    logins = StreamLogins(path)
    path.write_text(FILE.replace("s3cret", "newer"))
    assert logins.find("door", "door.example.com").password.get_secret_value() == "newer"


@pytest.mark.parametrize(("name", "host"), [("gate", "door.example.com"), ("door", "evil.example.com"), ("door", "")])
def test_an_unknown_name_and_another_host_are_refused_alike(tmp_path: Path, name: str, host: str) -> None:
    path = tmp_path / "logins.toml"
    path.write_text(FILE)
    with pytest.raises(SourceNotAllowed) as raised:
        StreamLogins(path).find(name, host)
    assert raised.value.detail.startswith(f"There are no credentials '{name}' for {host} here.")


def test_without_a_file_there_are_none() -> None:
    with pytest.raises(SourceNotAllowed):
        StreamLogins(None).find("door", "door.example.com")


@pytest.mark.parametrize(
    "text", ["password = s3cret", '[door]\npassword = "s3cret"\n', '[door]\nhost = 1\nx = "s3cret"']
)
def test_a_file_that_cannot_be_used_is_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "logins.toml"
    path.write_text(text)
    with pytest.raises(SourceUnavailable) as raised:
        StreamLogins(path).find("door", "door.example.com")
    assert "s3cret" not in raised.value.detail
    assert raised.value.__cause__ is None
